import { isId, isTerminal, notFound, type TaskState } from '@baton/domain';
import {
  type BreakerRow,
  type BusyWorker,
  findNamespace,
  kindsHeld,
  type Lane,
  listBreakers,
  livingWorkers,
  readStanding,
  readTask,
  type Standing,
  type TaskRow,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { type Ability, type Capabilities, lacksDevices, missingFor, toAbility } from './ability.ts';
import { durationText, heldText, inText, listOf, timeText, wordsFor } from './blocker-words.ts';
import { PREFER_MS, preferredWorker } from './preference.ts';
import { noRoom, tooLarge } from './resource-blockers.ts';

/** Why a task does not run, by stable names; docs/guide/tasks.md says of each what it means and what lifts it. */
export const BLOCKER_REASONS = [
  'NOT_DUE',
  'BACKOFF',
  'BLOCKED',
  'QUEUE_PAUSED',
  'NO_WORKER',
  'RESOURCES_TOO_LARGE',
  'MISSING_CAPABILITY',
  'NO_CAPACITY',
  'BREAKER_OPEN',
  'WORKER_DRAINING',
  'GATE_CLOSED',
  'BEHIND_OTHERS',
  'PREFERS_WORKER',
  'RUNNING',
  'ENDED',
] as const;
export type BlockerReason = (typeof BLOCKER_REASONS)[number];

/** One thing that keeps a task from running. */
export interface Blocker {
  reason: BlockerReason;
  message: string;
  remedy: string;
  /** The worker that it is about; null: all. */
  worker: string | null;
  /** What that worker lacks: `tag:ssd`, `kind:resize`, `memory>68719476736`. */
  missing: string[];
  /** When it ends by itself. */
  until: Date | null;
}

export interface Explanation {
  state: TaskState;
  /** One sentence: the nearest blocker. */
  summary: string;
  /** The nearest first; empty: it may start any moment. */
  blockers: Blocker[];
  /** Living workers that could do it, were they free. */
  fittingWorkers: number;
  /** Ready tasks of its lane that go before it, counted up to 10 000. */
  ahead: number;
}

/** Of each kind of blocker no more workers are named. */
const MOST_NAMED = 5;
/** A free worker that asks for work gets it at once. One that is free for longer does not ask. */
const SOON_MS = 10_000;

/**
 * Says why a task does not run, from what is in Postgres now, by the planner's own demands: what dispatch asks of a worker and what
 * is said here is one table.
 *
 * @throws Refusal TASK_NOT_FOUND
 */
export async function explainTask(env: EngineEnvironment, namespace: string, id: string): Promise<Explanation> {
  const { api } = env.pools;
  const namespaceId = isId(id) ? await findNamespace(api, namespace) : null;
  for (let tries = 0; ; tries++) {
    const task = namespaceId === null ? null : await readTask(api, namespaceId, id);
    if (!task) throw notFound('task', id);
    if (isTerminal(task.state)) return explained(task, [ended(task)], 0, 0);
    const standing = await readStanding(api, id);
    // It moved between the two reads: they must tell of the same moment.
    if (tries < 5 && standing?.place !== placeOf(task.state)) continue;
    if (!standing) continue;
    return explainLiving(env, task, standing);
  }
}

async function explainLiving(env: EngineEnvironment, task: TaskRow, standing: Standing): Promise<Explanation> {
  const { api } = env.pools;
  const { lane } = standing;
  const [living, breakers] = await Promise.all([
    livingWorkers(api, lane.namespaceId),
    listBreakers(api, lane.namespaceId, null),
  ]);
  const workers = living.map((worker) => seeWorker(worker, lane, breakers));
  const fitting = workers.filter(
    (w) => w.missing.length === 0 && w.state === 'active' && !w.breaker && !w.noDevice && w.gates.length === 0,
  );
  const blockers: Blocker[] = [];
  if (standing.place === 'leased') blockers.push(running(task, standing, env.now()));
  else {
    if (standing.place === 'waiting') blockers.push(notYet(task, env.now()));
    blockers.push(...(await dispatchBlockers(env, standing, workers, fitting)));
  }
  return explained(task, blockers, fitting.length, standing.ahead);
}

/** A living worker as this lane's task sees it. */
interface SeenWorker extends BusyWorker {
  ability: Ability;
  slots: number;
  missing: string[];
  /** Its own breaker, unless that is closed. */
  breaker: BreakerRow | null;
  /** Of a lane that needs a device: the open breakers that leave it none. */
  noDevice: BreakerRow[] | null;
}

function seeWorker(worker: BusyWorker, lane: Lane, breakers: readonly BreakerRow[]): SeenWorker {
  const capabilities = worker.capabilities as Capabilities;
  const notClosed = breakers.filter((b) => b.workerId === worker.workerId && b.state !== 'closed');
  const quarantined = notClosed.filter((b) => b.device !== '' && b.state === 'open');
  const ability = toAbility({ ...worker, capabilities }, () => quarantined.map((b) => b.device));
  return {
    ...worker,
    ability,
    slots: capabilities.slots ?? 1,
    missing: missingFor(ability, lane),
    breaker: notClosed.find((b) => b.device === '') ?? null,
    noDevice: lacksDevices(ability, lane) ? quarantined : null,
  };
}

async function dispatchBlockers(
  env: EngineEnvironment,
  standing: Standing,
  workers: readonly SeenWorker[],
  fitting: readonly SeenWorker[],
): Promise<Blocker[]> {
  const { lane } = standing;
  const blockers: Blocker[] = [];
  if (lane.paused)
    blockers.push({
      ...about(null),
      reason: 'QUEUE_PAUSED',
      message: `queue ${lane.queue} is paused`,
      remedy: `let it go on: baton queue resume ${lane.queue}`,
    });
  if (workers.length === 0)
    return [
      ...blockers,
      {
        ...about(null),
        reason: 'NO_WORKER',
        message: 'no worker of this namespace is alive',
        remedy: 'start one: baton worker',
      },
    ];
  const able = workers.filter((worker) => worker.missing.length === 0);
  if (able.length === 0) return [...blockers, ...neverFits(workers, lane), ...lacking(workers)];
  const preference = preferring(standing, able);
  if (preference && fitting.some((w) => w.leases < w.slots)) blockers.push(preference);
  if (fitting.length > 0) blockers.push(...(await busy(env, standing, fitting)));
  if (preference && !blockers.includes(preference)) blockers.push(preference);
  for (const worker of able.filter((w) => w.state === 'draining').slice(0, MOST_NAMED)) blockers.push(draining(worker));
  const active = able.filter((w) => w.state === 'active');
  for (const worker of active.filter((w) => w.breaker || w.noDevice).slice(0, MOST_NAMED))
    blockers.push(...broken(env, worker, fitting.length === 0));
  for (const worker of active.filter((w) => w.gates.length > 0).slice(0, MOST_NAMED)) blockers.push(gated(worker));
  // Where somebody is free, what others cannot do now is no blocker.
  return fitting.some((w) => w.leases < w.slots) && standing.place === 'ready'
    ? blockers.filter((b) => !['WORKER_DRAINING', 'BREAKER_OPEN', 'GATE_CLOSED'].includes(b.reason))
    : blockers;
}

/** What no living worker has so much of. */
function neverFits(workers: readonly SeenWorker[], lane: Lane): Blocker[] {
  return tooLarge(workers, lane).map(({ message, missing }) => ({
    ...about(null),
    reason: 'RESOURCES_TOO_LARGE',
    message,
    remedy: 'start a worker that has so much, or submit the task with less',
    missing,
  }));
}

/** The nearest workers, and what each would have to have. */
function lacking(workers: readonly SeenWorker[]): Blocker[] {
  return [...workers]
    .sort((a, b) => a.missing.length - b.missing.length)
    .slice(0, MOST_NAMED)
    .map(({ workerName, missing }, i) => {
      const lacks = listOf(missing.map(wordsFor));
      return {
        ...about(workerName),
        reason: 'MISSING_CAPABILITY',
        message:
          i === 0
            ? `no living worker can take it; the nearest is ${workerName}, which lacks ${lacks}`
            : `worker ${workerName} lacks ${lacks}`,
        remedy: `start a worker that has ${missing.length === 1 ? 'it' : 'them'}, or submit the task without that demand`,
        missing,
      };
    });
}

async function busy(env: EngineEnvironment, standing: Standing, fitting: readonly SeenWorker[]): Promise<Blocker[]> {
  const { ahead, readySince } = standing;
  const shortOf = await noRoom(env.pools.api, fitting, standing.lane);
  const free = fitting.filter((worker) => worker.leases < worker.slots && !shortOf.has(worker.sessionId));
  const blockers: Blocker[] = [];
  if (free.length === 0 && shortOf.size > 0) {
    for (const worker of fitting.slice(0, MOST_NAMED)) {
      const why = shortOf.get(worker.sessionId) ?? `${worker.leases} tasks for ${worker.slots} slots`;
      blockers.push({
        ...about(worker.workerName),
        reason: 'NO_CAPACITY',
        message: `worker ${worker.workerName} could take it, and has no room now: ${why}`,
        remedy: 'wait until one of its tasks ends, or start another worker',
      });
    }
  } else if (free.length === 0) {
    const named = [...fitting].sort((a, b) => a.leases / a.slots - b.leases / b.slots).slice(0, MOST_NAMED);
    const held = await kindsHeld(
      env.pools.api,
      named.map((worker) => worker.sessionId),
    );
    const all =
      fitting.length === 1
        ? 'the one worker that could take it is'
        : `all ${fitting.length} workers that could take it are`;
    named.forEach((worker, i) => {
      const holds = `${worker.workerName}: ${worker.leases} tasks for ${worker.slots} slots${heldText(held.get(worker.sessionId) ?? [], env.now())}`;
      blockers.push({
        ...about(worker.workerName),
        reason: 'NO_CAPACITY',
        message: i === 0 ? `${all} full; ${holds}` : holds,
        remedy: 'wait until one of its tasks ends, give it more slots, or start another worker',
      });
    });
  } else if (standing.place === 'ready' && !standing.lane.paused && ahead === 0) {
    const waitedMs = readySince ? env.now() - readySince.getTime() : 0;
    if (waitedMs > SOON_MS)
      blockers.push({
        ...about(free[0]!.workerName),
        reason: 'NO_CAPACITY',
        message: `worker ${free[0]!.workerName} has free slots and has not asked for work for ${durationText(waitedMs)}`,
        remedy: `look at its log and at its connection to the master, or start it again`,
      });
  }
  if (ahead > 0)
    blockers.push({
      ...about(null),
      reason: 'BEHIND_OTHERS',
      message: `${ahead >= 10_000 ? 'at least 10000' : ahead} ready ${ahead === 1 ? 'task' : 'tasks'} of the same kind go first, by priority and age`,
      remedy: 'wait, give it a higher priority when it is submitted, or start more workers',
    });
  return blockers;
}

/** Its files lie on one worker, which has a moment to take it. */
function preferring({ lane, place, readySince }: Standing, able: readonly SeenWorker[]): Blocker | null {
  const preferred = preferredWorker(lane);
  if (preferred === null || place !== 'ready') return null;
  const worker = able.find((w) => w.workerName.toLowerCase() === preferred);
  const full = worker && worker.leases >= worker.slots ? ', which is full' : '';
  const away = worker ? full : ', which is away';
  return {
    ...about(worker?.workerName ?? preferred),
    reason: 'PREFERS_WORKER',
    message: `its files lie on worker ${worker?.workerName ?? preferred}${away}: others take it when that one has not taken it within ${durationText(PREFER_MS)}`,
    remedy: 'nothing: it goes to another worker by itself',
    until: readySince ? new Date(readySince.getTime() + PREFER_MS) : null,
  };
}

function draining(worker: SeenWorker): Blocker {
  return {
    ...about(worker.workerName),
    reason: 'WORKER_DRAINING',
    message: `worker ${worker.workerName} could take it, but drains${worker.reason ? ` (${worker.reason})` : ''}`,
    remedy: 'start it again when it has left, or start another worker',
  };
}

function gated(worker: SeenWorker): Blocker {
  return {
    ...about(worker.workerName),
    reason: 'GATE_CLOSED',
    message: `worker ${worker.workerName} could take it, but takes no new work: ${worker.gates.join('; ')}`,
    remedy: `wait until that is over, look at its machine (baton worker show ${worker.workerName}), or start another worker`,
  };
}

/** @param isSole no other could take the task: then a worker's own breaker is tried again sooner */
function broken(env: EngineEnvironment, worker: SeenWorker, isSole: boolean): Blocker[] {
  const { openMs, soleOpenMs } = env.settings.breaker;
  const rows = worker.breaker ? [worker.breaker] : (worker.noDevice ?? []);
  return rows.map((row) => {
    const what =
      row.device === '' ? `the breaker of ${row.worker}` : `the breaker of device ${row.device} of ${row.worker}`;
    const forMs = isSole && row.device === '' ? Math.min(soleOpenMs, openMs) : openMs;
    const until = row.state === 'open' ? new Date(row.changedAt.getTime() + forMs) : null;
    const device = row.device === '' ? '' : ` --device ${row.device}`;
    return {
      ...about(row.worker),
      reason: 'BREAKER_OPEN',
      message:
        row.state === 'open'
          ? `${what} is open: ${row.reason}`
          : `${what} is half-open: one task at a time is tried there${row.probeTaskId ? `, now ${row.probeTaskId}` : ''}`,
      remedy: `${until ? 'wait until it is tried again' : 'wait for what is tried'}, or close it: baton worker reset ${row.worker}${device}`,
      until,
    };
  });
}

function notYet(task: TaskRow, nowMs: number): Blocker {
  const until = task.dueAt;
  const when = until ? `until ${timeText(until)}, ${inText(until.getTime() - nowMs)}` : '';
  if (task.state === 'scheduled')
    return {
      ...about(null),
      reason: 'NOT_DUE',
      message: `it is scheduled: it waits ${when}`,
      remedy: 'wait, or cancel it and submit it again without a time',
      until,
    };
  if (task.state === 'backoff')
    return {
      ...about(null),
      reason: 'BACKOFF',
      message: `it waits ${when}, because attempt ${task.attempt} ${task.failure?.type === 'WORKER_CRASH' ? 'was lost with its worker (that costs none of the attempts it has)' : `of ${task.maxAttempts} failed`}${task.failure ? `: ${task.failure.type}: ${task.failure.message}` : ''}`,
      remedy: 'wait; what made it fail is in its attempts: baton task get',
      until,
    };
  return {
    ...about(null),
    reason: 'BLOCKED',
    message: 'it waits for other work to end',
    remedy: 'nothing: it becomes ready by itself',
  };
}

function running(task: TaskRow, { lease }: Standing, nowMs: number): Blocker {
  const { worker, grantedAt, startedAt, heardMs, sessionState } = lease!;
  const sign = task.progress?.at;
  const said = task.progress?.message ? ` (${task.progress.message})` : '';
  const what = startedAt
    ? `it runs on ${worker} since ${timeText(startedAt)}, ${durationText(nowMs - startedAt.getTime())}`
    : `worker ${worker} holds it since ${timeText(grantedAt)} and has not said that it began`;
  const heard = `the worker was last heard ${durationText(heardMs)} ago`;
  return {
    ...about(worker),
    reason: 'RUNNING',
    message: [
      `${what}, attempt ${task.attempt}`,
      sign && `its last sign${said} was ${durationText(nowMs - sign.getTime())} ago`,
      sessionState === 'closed' ? 'its worker is gone: it is about to be taken back' : heard,
      task.cancelReason !== null && `it was asked to stop: ${task.cancelReason}`,
    ]
      .filter(Boolean)
      .join('; '),
    remedy: startedAt
      ? 'wait for its end, watch it (baton task watch), or cancel it (baton task cancel)'
      : 'wait: a short task is not reported before its end, and a prefetched one starts when a slot is free',
  };
}

function ended(task: TaskRow): Blocker {
  const at = task.endedAt ? ` at ${timeText(task.endedAt)}` : '';
  const message =
    task.state === 'succeeded'
      ? `it succeeded${at}${task.worker ? ` on ${task.worker}` : ''}, in attempt ${task.attempt}`
      : task.state === 'cancelled'
        ? `it was cancelled${at}${task.cancelReason ? `: ${task.cancelReason}` : ''}`
        : `it failed for good${at}, after ${task.attempt} ${task.attempt === 1 ? 'attempt' : 'attempts'}${task.failure ? `: ${task.failure.type}: ${task.failure.message}` : ''}`;
  return {
    ...about(null),
    reason: 'ENDED',
    message,
    remedy: task.state === 'succeeded' ? 'nothing: it is done' : `send it again: baton task resend ${task.id}`,
  };
}

function explained(task: TaskRow, blockers: Blocker[], fittingWorkers: number, ahead: number): Explanation {
  const nearest = blockers[0];
  const sentence = nearest ? nearest.message : 'it may start any moment';
  return {
    state: task.state,
    summary: `${sentence[0]!.toUpperCase()}${sentence.slice(1)}.`,
    blockers,
    fittingWorkers,
    ahead,
  };
}

const about = (worker: string | null) => ({ worker, missing: [] as string[], until: null as Date | null });

function placeOf(state: TaskState): Standing['place'] {
  if (state === 'leased' || state === 'ready') return state;
  return 'waiting';
}
