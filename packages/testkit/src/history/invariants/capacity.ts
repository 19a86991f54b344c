import type { LaneRow, SessionRow, WorkerRow } from '../database-dump.ts';
import { type Findings, findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { type Grant, type HistoryIndex, indexHistory, push } from '../history-index.ts';

/**
 * No device in two live leases, and none in one that is not there; no two processes with one device at the same time. 11: live leases of a worker never exceed its capacity; the class matches; a drained or dead session gets nothing. Capacity is
 * slots: real processes never exceed them; leases may, by what is fetched ahead.
 */
export function checkCapacity(history: History): InvariantResult {
  const found = findings(11, 'within capacity, of the right class, nothing to the drained or dead');
  const index = indexHistory(history);
  found.skip('CPUs and memory: leases do not name them');
  checkDevices(history, found);
  const bySession = new Map<string, Grant[]>();
  for (const list of index.grants.values()) for (const grant of list) push(bySession, grant.sessionId, grant);
  const closing = closingTimes(history, index);
  for (const [sessionId, grants] of bySession) {
    const session = index.sessions.get(sessionId);
    if (!session) continue; // forgotten a day after its end
    const worker = index.workers.get(session.workerId);
    for (const grant of grants) {
      found.exercise();
      checkTime(grant, session, closing.get(sessionId), history, found);
      if (worker && isOf(session, worker, history)) checkFit(grant, worker, index, found);
    }
    const slots = worker && isOf(session, worker, history) ? worker.capabilities.slots : undefined;
    if (slots !== undefined && history.settings.maxPrefetch !== null) {
      const limit = slots + history.settings.maxPrefetch;
      const most = mostAtOnce(
        // The worker never heard of these: it could not count them.
        grants
          .filter((g) => !(g.ended?.state === 'returned' && g.ended.failure))
          .map((g) => [g.grantedAtMs, g.ended?.endedAtMs ?? null]),
      );
      found.exercise();
      if (most > limit)
        found.violate(`session ${sessionId} held ${most} leases at once, ${slots} slots and ${limit - slots} ahead`);
    }
  }
  if (history.settings.maxPrefetch === null)
    found.skip('leases fetched ahead are not counted (maxPrefetch is not set)');
  if (!history.effects) found.skip('the effects of workers were not recorded');
  else checkProcesses(history, index, found);
  return found.result();
}

/** Whether what the worker registered last is what this session registered. */
function isOf(session: SessionRow, worker: WorkerRow, { settings }: History): boolean {
  return settings.sameCapabilities || worker.sessionId === session.id;
}

interface Closing {
  readonly atMs: number;
  readonly why: string;
}

/** When sessions stopped getting work before they expired: drained by a client, or replaced by another life of their worker. */
function closingTimes({ database, operations }: History, index: HistoryIndex): Map<string, Closing> {
  const closing = new Map<string, Closing>();
  const close = (sessionId: string, atMs: number, why: string) => {
    if ((closing.get(sessionId)?.atMs ?? Number.POSITIVE_INFINITY) > atMs) closing.set(sessionId, { atMs, why });
  };
  const lives = new Map<number, SessionRow[]>();
  for (const session of database.sessions) push(lives, session.workerId, session);
  for (const list of lives.values()) {
    list.sort((a, b) => a.registeredAtMs - b.registeredAtMs);
    list.slice(1).forEach((next, i) => {
      close(list[i]!.id, next.registeredAtMs, 'another life of its worker had registered');
    });
  }
  for (const op of operations ?? []) {
    if (op.type !== 'drain_worker' || op.outcome !== 'ok' || op.answeredAtMs === null) continue;
    const worker = database.workers.find((w) => w.name === op.worker);
    const then = (worker ? (lives.get(worker.id) ?? []) : [])
      .filter((s) => s.registeredAtMs <= op.answeredAtMs!)
      .at(-1);
    // If its worker registered during the call, nobody knows which of its sessions was drained.
    const sessionId = op.sessionId ?? (then && then.registeredAtMs < op.invokedAtMs ? then.id : undefined);
    if (sessionId !== undefined && index.sessions.has(sessionId))
      close(sessionId, op.answeredAtMs, 'it had been drained');
  }
  return closing;
}

function checkTime(
  grant: Grant,
  session: SessionRow,
  closing: Closing | undefined,
  { settings }: History,
  found: Findings,
): void {
  const where = { taskId: grant.taskId, epoch: grant.epoch };
  const granted = `task ${grant.taskId} was granted to session ${session.id}`;
  if (grant.grantedAtMs < session.registeredAtMs) found.violate(`${granted} before it was there`, where);
  if (grant.grantedAtMs > session.expiresAtMs + settings.raceMs)
    found.violate(`${granted} after its time was over`, where);
  else if (closing && grant.grantedAtMs > closing.atMs + settings.raceMs)
    found.violate(`${granted} after ${closing.why}`, where);
}

function checkFit(grant: Grant, worker: WorkerRow, { tasks, lanes }: HistoryIndex, found: Findings): void {
  const lane = lanes.get(tasks.get(grant.taskId)?.laneId ?? -1);
  const missing = lane && whatIsMissing(lane, worker);
  if (missing)
    found.violate(`task ${grant.taskId} was granted to worker ${worker.name}, which lacks ${missing}`, {
      taskId: grant.taskId,
      epoch: grant.epoch,
    });
}

function whatIsMissing(lane: LaneRow, { name, namespace, capabilities }: WorkerRow): string | null {
  const classes = capabilities.taskClasses?.length ? capabilities.taskClasses : ['cpu_short', 'cpu_long'];
  if (lane.namespace !== namespace) return `namespace ${lane.namespace}`;
  if (!classes.includes(lane.taskClass)) return `class ${lane.taskClass}`;
  if (capabilities.executors && !capabilities.executors.includes(lane.executor)) return `executor ${lane.executor}`;
  if (lane.executor === 'function' && capabilities.kinds && !capabilities.kinds.includes(lane.kind))
    return `kind ${lane.kind}`;
  if (capabilities.queues?.length && !capabilities.queues.includes(lane.queue)) return `queue ${lane.queue}`;
  const tags = new Set([`worker:${name.toLowerCase()}`, ...(capabilities.tags ?? []).map((tag) => tag.toLowerCase())]);
  // Floors of memory are compared, not named; needs are the planner's to compare, and a preference asks for nothing.
  const tag = lane.tags.find((each) => !tags.has(each) && !/^(((gpu_)?memory|protocol)>|needs:|prefers:)/.test(each));
  return tag === undefined ? null : `tag ${tag}`;
}

function checkProcesses(history: History, index: HistoryIndex, found: Findings): void {
  const bySession = new Map<string, [number, number | null][]>();
  for (const effect of history.effects ?? []) push(bySession, effect.sessionId, [effect.startedAtMs, effect.endedAtMs]);
  for (const [sessionId, spans] of bySession) {
    const session = index.sessions.get(sessionId);
    const worker = session && index.workers.get(session.workerId);
    if (!session || !worker || !isOf(session, worker, history) || worker.capabilities.slots === undefined) continue;
    found.exercise(spans.length);
    const most = mostAtOnce(spans);
    if (most > worker.capabilities.slots)
      found.violate(
        `session ${sessionId} of worker ${worker.name} worked on ${most} tasks at once; it has ${worker.capabilities.slots} slots`,
      );
  }
}

function checkDevices({ database, effects }: History, found: Findings): void {
  const live = new Set(database.leases.map(({ taskId, epoch }) => `${taskId}.${epoch}`));
  const holders = new Map<string, { place: number; workerId: number; taskId: string }>();
  for (const { scope, uuid, place, workerId, taskId, epoch } of database.deviceLeases ?? []) {
    found.exercise();
    const where = { taskId, epoch };
    const device = `${scope}/${uuid}`;
    const other = holders.get(device);
    // One that runs, and one that waits for it at the same worker. That they do not run at once is seen by their effects.
    if (other !== undefined && (other.place === place || other.workerId !== workerId))
      found.violate(`device ${uuid} is held by tasks ${other.taskId} and ${taskId}`, where);
    holders.set(device, { place, workerId, taskId });
    if (!live.has(`${taskId}.${epoch}`))
      found.violate(`device ${uuid} is held by task ${taskId}, which has no such lease`, where);
  }
  const uses = new Map<string, [number, number | null][]>();
  for (const { devices, startedAtMs, endedAtMs } of effects ?? [])
    for (const device of devices ?? []) push(uses, device, [startedAtMs, endedAtMs]);
  for (const [device, spans] of uses) {
    found.exercise(spans.length);
    const most = mostAtOnce(spans);
    if (most > 1) found.violate(`device ${device} was used by ${most} tasks at once`);
  }
}

/** The most spans that hold a moment in common; one that ends when another begins does not meet it. */
function mostAtOnce(spans: readonly (readonly [from: number, to: number | null])[]): number {
  const steps = spans.flatMap(([from, to]): [number, number][] => [
    [from, 1],
    [to ?? Number.POSITIVE_INFINITY, -1],
  ]);
  steps.sort(([a, up], [b, down]) => a - b || up - down);
  let now = 0;
  let most = 0;
  for (const [, step] of steps) {
    now += step;
    most = Math.max(most, now);
  }
  return most;
}
