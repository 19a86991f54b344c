import type { Resources, TaskEnvironment } from '@baton/domain';
import {
  type ArtifactInput,
  claimHeads,
  claimProbe,
  FEW_LANES,
  type Grant,
  type Lane,
  loadSpecs,
  readArtifactInputs,
  type Spec,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { FUNCTION_PROTOCOL_TAG } from '../functions/function-definition.ts';
import type { Counters } from '../metrics.ts';
import { persist } from '../persist.ts';
import type { NodeNames } from '../runs/node-names.ts';
import { ARTIFACTS_TAG } from '../sessions/protocol.ts';
import { loadedExecutor, type TaskExecutor } from '../tasks/task-executor.ts';
import { type Ability, canDo } from './ability.ts';
import type { BreakerBook } from './breaker-book.ts';
import type { LaneBook } from './lane-book.ts';
import { createPlannedClaims, type OfferRoom, type PlannedGrants, type PlannedOffer } from './planned-claims.ts';
import { PREFER_MS, preferredWorker } from './preference.ts';

const PLAIN = { executor: { type: 'function' } as TaskExecutor, environment: undefined };

/** Work for a worker, ready to be sent. */
export interface Assignment extends Grant {
  kind: string;
  executor: TaskExecutor;
  environment: TaskEnvironment | undefined;
  nodeId: string | null;
  inputBlob: { sha256: string; sizeBytes: number } | null;
  progressTimeoutMs: number | null;
  /** Files that it is handed. */
  artifacts: readonly ArtifactInput[];
  /** Number of the newest committed checkpoint; '0': none. */
  checkpoint: string;
  /** What it takes up; null: a slot. */
  resources: Resources | null;
  /** UUIDs of its devices. */
  devices: readonly string[];
  /** When its claim was sent, by this master's clock, ms. */
  claimedAt: number;
}

/**
 * Brings waiting offers and ready tasks together.
 *
 * A lane is armed (maybe something is ready) or dry. A claim that came back short marks the lanes that it asked dry; a submit, a
 * retry that came due or the rescan arms them again. Nothing is counted in Postgres. All of it can be lost: an offer is only a worker
 * that waits, and a lane that is wrongly armed costs one empty claim.
 */
export interface Dispatcher {
  /** Waits for work for this session; resolves with what was granted, maybe nothing. A newer offer ends an older one. */
  offer(
    session: { id: string; ability: Ability },
    number: bigint,
    free: number,
    waitMs: number,
    abort?: AbortSignal,
    room?: OfferRoom | null,
  ): Promise<Assignment[]>;
  /**
   * Offers for tasks that are about to be stored: see HandOver. `tasks` are those that need nothing but their input, in the order in
   * which they are to be given.
   */
  reserve(tasks: readonly { laneId: number }[]): HandOver | null;
  /** The task was given devices by this master. */
  hasDevices(taskId: string): boolean;
  /** These tasks have ended: their devices may be given again. */
  ended(taskIds: readonly string[]): void;
  /** A task of this worker has ended. */
  note(workerId: number, succeeded: boolean, ranMs: number): void;
  /** Ends the waiting offer of a session, if any: there is something else to say. */
  release(sessionId: string): void;
  /** Keeps what was granted for the session's next call: its answer could not be sent. */
  keep(sessionId: string, assignments: Assignment[]): void;
  /** Those of these that may still be sent. The others go back to ready at once: nobody hears of them. */
  fresh(assignments: Assignment[]): Assignment[];
  /** Forgets what is kept for a session, or these leases of it: they go back. */
  discard(sessionId: string, leases?: readonly { taskId: string; epoch: number }[]): void;
  arm(laneId: number): void;
  /** Lanes in which something may be ready. */
  armed(): Lane[];
  armAll(): void;
  /** Lanes that are known to have nothing, but for what other masters found. */
  dry(): number[];
  /** Looks once more whether offers that wait can be served from lanes that may have something. Reads nothing where none can. */
  again(): void;
  waiting(): number;
  /** Offers that have waited for longer than this, with the lanes from which they could be served. */
  hungry(longerThanMs: number): { sessionId: string; laneIds: number[] }[];
  close(): void;
}

/**
 * Waiting offers that are kept for tasks while these are stored, so that they can be leased in the same statement. Only where nothing
 * else is known to be ready in the lane, the lane's tasks are given out by no plan, and no worker is preferred.
 */
export interface HandOver {
  /** For each task the session that waits for it; null: none. */
  readonly takers: readonly (string | null)[];
  /** To be called once, in any case: with what became leases, sent at that time (ms); the offers that got nothing wait on. */
  end(grants: readonly Grant[], claimedAt: number): void;
}

/**
 * Whether a worker may still be told of this lease. What was claimed a heartbeat's interval ago may have been disowned meanwhile, at
 * another master, as a lease that the worker never heard of.
 */
function isFresh(assignment: Assignment, env: EngineEnvironment): boolean {
  return env.now() < assignment.claimedAt + env.settings.heartbeatIntervalMs;
}

/** About what a lease takes in a message beside its input. */
const LEASE_BYTES = 150;
/** And each of its files. */
const FILE_BYTES = 120;
const NO_FILES: readonly ArtifactInput[] = [];
const PROBE_PAUSE_MS = 200;
const NO_DEVICES: PlannedGrants['devices'] = new Map();
const NO_UUIDS: readonly string[] = [];
/** Of a function that has nothing but its input. */
const NO_SPEC: Spec = {
  input: null,
  inputBlob: null,
  executor: null,
  nodeId: null,
  progressTimeoutMs: null,
  checkpoint: '0',
};
/** Of the workers that have waited longest so many are weighed against each other, and as many as there are tasks. */
const MOST_TAKERS = 200;
/** So many plans in a row may not be granted in full before their lanes rest until the next look. */
const MOST_MISSES = 5;

interface Offer {
  sessionId: string;
  ability: Ability;
  number: bigint;
  free: number;
  /** Beside slots; null: the worker does not say. */
  room: OfferRoom | null;
  /** Wall clock, ms. */
  since: number;
  /** Answer after the next claim, even with nothing. */
  urgent: boolean;
  /** Wall clock: a probe that found nothing is not tried again before. */
  retryProbeAt: number;
  /** A statement that may grant to it is under way: no other may. */
  asked: boolean;
  resolve(assignments: Assignment[]): void;
}

/**
 * Long because what changes offers, armed lanes and answers that nobody took is one closure: each of the three decides on the others.
 *
 * @param onUnsent leases that this master was granted and did not send
 * @param nodeNames of tasks that need not be read
 */
export function createDispatcher(
  env: EngineEnvironment,
  lanes: LaneBook,
  counters: Counters,
  breakers: Pick<BreakerBook, 'stateOf' | 'mayProbe' | 'noteProbe'>,
  onUnsent: (assignments: Assignment[]) => void = () => {},
  nodeNames: Pick<NodeNames, 'take'> = { take: () => undefined },
): Dispatcher {
  const { pools, settings } = env;
  /** Lanes that may have something, with a number that tells whether they were armed again during a claim. */
  const armed = new Map<number, number>();
  let armings = 0;
  /** Since when lanes that prefer a worker may have something. */
  const softSince = new Map<number, number>();
  const offers = new Map<string, Offer>();
  /**
   * Granted to a session whose offer had gone: goes with its next answer. If none comes within a heartbeat's interval it goes back:
   * the session may have told another master meanwhile that it never heard of these leases.
   */
  const undelivered = new Map<string, Assignment[]>();
  const timers = new Set<ReturnType<typeof setTimeout>>();
  /** The newest offer of each session that was answered with leases: the same call once more (a proxy's repetition) gets no others. */
  const spent = new Map<string, bigint>();
  const plans = createPlannedClaims(env, lanes, () => pump());
  /** Plans in a row that were not granted in full. */
  let misses = 0;
  let pumping = false;
  let again = false;
  let closed = false;
  /** Offers that came since the last pass: the others have been looked at as things stand, unless `again`. */
  let newcomers: Offer[] = [];

  const end = (offer: Offer, assignments: Assignment[]) => {
    if (offers.get(offer.sessionId) === offer) offers.delete(offer.sessionId);
    if (assignments.length > 0) spent.set(offer.sessionId, offer.number);
    offer.resolve(assignments);
  };

  const arm = (laneId: number) => {
    if (!armed.has(laneId)) noteSoft(laneId);
    armed.set(laneId, ++armings);
    pump();
  };

  /** Anybody who waits may be served now. */
  const pump = () => {
    again = true;
    run();
  };

  const run = () => {
    if (closed || pumping) return;
    pumping = true;
    void (async () => {
      try {
        do {
          const looked = again ? [...offers.values()] : newcomers;
          again = false;
          newcomers = [];
          await round(looked);
        } while ((again || newcomers.length > 0) && !closed);
      } catch (error) {
        env.log.error('dispatch failed', { error: String(error) });
        setTimeout(pump, 100 + env.random() * 200);
      } finally {
        pumping = false;
        if (again || newcomers.length > 0) run();
      }
    })();
  };

  function noteSoft(laneId: number): void {
    const lane = lanes.get(laneId);
    if (!lane || preferredWorker(lane) === null) return;
    softSince.set(laneId, env.now());
    const timer = setTimeout(() => {
      timers.delete(timer);
      if (armed.has(laneId) && offers.size > 0) pump();
    }, PREFER_MS);
    timers.add(timer);
  }

  /** Whether this worker may take from this lane now: others leave it to the one that is preferred, for a moment. */
  function isOpenTo(lane: Lane, ability: Ability, preferred: string | null): boolean {
    if (preferred === null || preferred === ability.workerName.toLowerCase()) return true;
    if (!softSince.has(lane.id)) noteSoft(lane.id);
    return env.now() - (softSince.get(lane.id) ?? 0) >= PREFER_MS;
  }

  function dry(laneId: number): void {
    armed.delete(laneId);
    softSince.delete(laneId);
  }

  /** One pass over waiting offers: those that can do the same lanes are served by one claim. */
  async function round(looked: readonly Offer[]): Promise<void> {
    const groups = new Map<string, { laneIds: number[]; offers: Offer[]; isPreferred: boolean }>();
    const probes: { laneIds: number[]; offer: Offer; isPlanned: boolean }[] = [];
    const planned: { laneIds: number[]; offer: Offer }[] = [];
    for (const offer of looked) {
      if (offer.asked || offers.get(offer.sessionId) !== offer) continue;
      // Held back by its breaker, as far as is known here; the claim asks for itself.
      const { workerId } = offer.ability;
      const isHeldBack = breakers.stateOf(workerId) !== 'closed';
      if (isHeldBack && !(breakers.mayProbe(workerId) && offer.retryProbeAt <= env.now())) {
        if (offer.urgent) end(offer, []);
        continue;
      }
      const laneIds: number[] = [];
      let isPreferred = false;
      let isPlanned = false;
      for (const laneId of armed.keys()) {
        const lane = lanes.get(laneId);
        if (!lane || lane.paused || !canDo(offer.ability, lane)) continue;
        const preferred = preferredWorker(lane);
        if (!isOpenTo(lane, offer.ability, preferred)) continue;
        if (plans.isPlanned(offer.ability, lane, offer.room)) {
          if (!plans.hasRoom(offer.ability, lane, offer.room, true)) continue;
          isPlanned = true;
        }
        isPreferred ||= preferred === offer.ability.workerName.toLowerCase();
        laneIds.push(laneId);
      }
      if (laneIds.length === 0) {
        if (offer.urgent) end(offer, []);
        continue;
      }
      if (isHeldBack) {
        probes.push({ laneIds, offer, isPlanned });
        continue;
      }
      if (isPlanned) {
        planned.push({ laneIds, offer });
        continue;
      }
      const signature = laneIds.join(',');
      const group = groups.get(signature);
      if (group) group.offers.push(offer);
      else groups.set(signature, { laneIds, offers: [offer], isPreferred });
    }
    for (const group of groups.values()) if (group.isPreferred) await serve(group.laneIds, group.offers);
    await servePlanned(planned);
    for (const group of groups.values()) if (!group.isPreferred) await serve(group.laneIds, group.offers);
    for (const { laneIds, offer, isPlanned } of probes) await serveProbe(laneIds, offer, isPlanned);
  }

  /** It waits still, and nothing that is under way may grant to it. */
  const isFree = (offer: Offer) => offers.get(offer.sessionId) === offer && !offer.asked;

  /** While `claim` runs, these are for nothing else. */
  async function asking<T>(claimed: readonly Offer[], claim: () => Promise<T>): Promise<T> {
    for (const offer of claimed) offer.asked = true;
    try {
      return await claim();
    } finally {
      for (const offer of claimed) offer.asked = false;
    }
  }

  const plannedOffer = ({ laneIds, offer }: { laneIds: number[]; offer: Offer }): PlannedOffer => ({
    sessionId: offer.sessionId,
    ability: offer.ability,
    free: offer.free,
    room: offer.room,
    laneIds: new Set(laneIds),
  });

  /** Offers for which a plan chooses between tasks: see PlannedClaims. */
  async function servePlanned(entries: { laneIds: number[]; offer: Offer }[]): Promise<void> {
    const living = entries.filter(({ offer }) => isFree(offer));
    if (living.length === 0) return;
    const laneCount = new Set(living.flatMap(({ laneIds }) => laneIds)).size;
    const total = living.reduce((sum, { offer }) => sum + offer.free, 0);
    const perLane = Math.min(total, Math.max(1, Math.floor(settings.claimRows / laneCount)));
    const before = armings;
    counters.add('baton_claims_total');
    const claimedAt = env.now();
    const done = await asking(
      living.map(({ offer }) => offer),
      () => plans.claim(living.map(plannedOffer), perLane),
    );
    const dried = [...done.drained];
    // Others were faster, mostly: again, but not for ever.
    if (done.missed.length === 0) misses = 0;
    else if (++misses <= MOST_MISSES) again = true;
    else {
      misses = 0;
      dried.push(...done.missed);
    }
    for (const laneId of dried) if ((armed.get(laneId) ?? 0) <= before) dry(laneId);
    counters.add('baton_tasks_granted_total', done.grants.length);
    const claiming = living.map(({ offer }) => offer);
    deliver(claiming, await complete(done.grants, claimedAt, done.devices));
    lookAgainFor(claiming, done.grants);
  }

  /** One task at most, to see whether the worker is well again. */
  async function serveProbe(laneIds: number[], offer: Offer, isPlanned: boolean): Promise<void> {
    if (!isFree(offer)) return;
    counters.add('baton_claims_total');
    const claimedAt = env.now();
    const { grants, devices } = await asking([offer], async () =>
      isPlanned
        ? plans.claimProbe(plannedOffer({ laneIds, offer }))
        : {
            grants: await persist(() => claimProbe(pools.hot, laneIds, offer.sessionId), env.random),
            devices: NO_DEVICES,
          },
    );
    for (const grant of grants) breakers.noteProbe(offer.ability.workerId, grant.taskId);
    // Nothing for it: that may be the breaker as well as the lanes, so these stay armed, and it waits a moment.
    if (grants.length === 0) offer.retryProbeAt = env.now() + PROBE_PAUSE_MS;
    counters.add('baton_tasks_granted_total', grants.length);
    const mine = await complete(grants, claimedAt, devices);
    if (offers.get(offer.sessionId) === offer) {
      if (mine.length > 0 || offer.urgent) end(offer, portion(offer.sessionId, mine));
    } else keep(offer.sessionId, mine);
  }

  async function serve(laneIds: number[], inGroup: Offer[]): Promise<void> {
    // Where there is less than all could take: to whom has done the least.
    const waiting =
      inGroup.length < 2
        ? inGroup
        : inGroup.sort(
            (a, b) => plans.recordOf(a.ability.workerId).completed - plans.recordOf(b.ability.workerId).completed,
          );
    const wants: { sessionId: string; count: number }[] = [];
    const claiming: Offer[] = [];
    const lockedDeep = laneIds.length > FEW_LANES ? 1 : laneIds.length;
    const most = Math.max(settings.batchRows, Math.floor(settings.claimRows / lockedDeep));
    let total = 0;
    for (const offer of waiting) {
      // An offer may have ended, or be asked for, while an earlier group was served.
      if (!isFree(offer)) continue;
      const count = Math.min(offer.free, most - total);
      if (count <= 0) {
        again = true;
        break;
      }
      wants.push({ sessionId: offer.sessionId, count });
      claiming.push(offer);
      total += count;
    }
    if (total === 0) return;
    const before = armings;
    counters.add('baton_claims_total');
    const claimedAt = env.now();
    const { grants, isDry } = await asking(claiming, () =>
      persist(() => claimHeads(pools.hot, laneIds, wants), env.random),
    );
    if (isDry) for (const laneId of laneIds) if ((armed.get(laneId) ?? 0) <= before) dry(laneId);
    counters.add('baton_tasks_granted_total', grants.length);
    deliver(claiming, await complete(grants, claimedAt));
    lookAgainFor(claiming, grants);
  }

  /** Some of these got something and some nothing, though the lanes may have more. */
  function lookAgainFor(claiming: readonly Offer[], grants: readonly Grant[]): void {
    if (grants.length > 0 && armed.size > 0 && claiming.some((offer) => isFree(offer))) again = true;
  }

  /** Whether what is stored now in this lane may go straight to a worker: nothing is known to be ready there, and nobody chooses. */
  const isIdle = (lane: Lane) =>
    !armed.has(lane.id) &&
    !lane.paused &&
    lane.executor === 'function' &&
    !lane.tags.includes(ARTIFACTS_TAG) &&
    preferredWorker(lane) === null;

  function reserve(tasks: readonly { laneId: number }[]): HandOver | null {
    if (offers.size === 0 || closed) return null;
    const left = new Map<Offer, number>();
    const takers = new Map<number, Offer[]>();
    const most = Math.max(MOST_TAKERS, tasks.length);
    const takersOf = (laneId: number): Offer[] => {
      const lane = lanes.get(laneId);
      if (!lane || !isIdle(lane)) return [];
      const able: Offer[] = [];
      for (const offer of offers.values()) {
        const isOpen = !offer.asked && !offer.urgent && breakers.stateOf(offer.ability.workerId) === 'closed';
        if (!isOpen || !canDo(offer.ability, lane) || plans.isPlanned(offer.ability, lane, offer.room)) continue;
        able.push(offer);
        if (able.length >= most) break;
      }
      const completed = ({ ability }: Offer) => plans.recordOf(ability.workerId).completed;
      return able.sort((a, b) => completed(a) - completed(b));
    };
    const sessions = tasks.map(({ laneId }) => {
      if (!takers.has(laneId)) takers.set(laneId, takersOf(laneId));
      const taker = takers.get(laneId)!.find((offer) => (left.get(offer) ?? offer.free) > 0);
      if (taker === undefined) return null;
      left.set(taker, (left.get(taker) ?? taker.free) - 1);
      return taker.sessionId;
    });
    const asked = [...left.keys()];
    if (asked.length === 0) return null;
    for (const offer of asked) offer.asked = true;
    return {
      takers: sessions,
      end(grants, claimedAt) {
        for (const offer of asked) offer.asked = false;
        counters.add('baton_tasks_granted_total', grants.length);
        deliver(
          asked,
          grants.map((grant) => assign(grant, claimedAt)),
        );
        if (armed.size > 0) pump();
      },
    };
  }

  function deliver(waiting: readonly Offer[], assignments: readonly Assignment[]): void {
    const bySession = new Map<string, Assignment[]>();
    for (const assignment of assignments) {
      const list = bySession.get(assignment.sessionId);
      if (list) list.push(assignment);
      else bySession.set(assignment.sessionId, [assignment]);
    }
    for (const offer of waiting) {
      const mine = bySession.get(offer.sessionId);
      if (mine) bySession.delete(offer.sessionId);
      if (offers.get(offer.sessionId) === offer) {
        // And what was kept while the statement for this one was under way.
        const all = [...takeKept(offer.sessionId), ...(mine ?? [])];
        if (all.length > 0 || offer.urgent) end(offer, portion(offer.sessionId, all));
      } else if (mine) keep(offer.sessionId, mine);
    }
  }

  /**
   * For the session's next call, which may be waiting already: a newer offer ends an older one while a statement that grants to the older one
   * is under way.
   */
  const keep = (sessionId: string, assignments: Assignment[]) => {
    hold(sessionId, assignments);
    const offer = offers.get(sessionId);
    if (offer === undefined || offer.asked) return;
    const kept = takeKept(sessionId);
    if (kept.length > 0) end(offer, portion(sessionId, kept));
  };

  const hold = (sessionId: string, assignments: Assignment[]) => {
    if (assignments.length === 0) return;
    const earlier = undelivered.get(sessionId);
    undelivered.set(sessionId, earlier ? [...earlier, ...assignments] : assignments);
    const timer = setTimeout(() => {
      timers.delete(timer);
      const kept = undelivered.get(sessionId);
      if (!kept) return;
      const still = fresh(kept);
      if (still.length > 0) undelivered.set(sessionId, still);
      else undelivered.delete(sessionId);
    }, settings.heartbeatIntervalMs);
    timers.add(timer);
  };

  /** Without those that are too old to be sent. Nobody will hear of these from here: they go back at once. */
  const fresh = (assignments: Assignment[]): Assignment[] => {
    const young = assignments.filter((assignment) => isFresh(assignment, env));
    if (young.length < assignments.length) onUnsent(assignments.filter((a) => !young.includes(a)));
    return young;
  };

  const takeKept = (sessionId: string): Assignment[] => {
    const kept = undelivered.get(sessionId);
    undelivered.delete(sessionId);
    return kept ? fresh(kept) : [];
  };

  /** As many as one answer can carry; the rest goes with the next one. Workers read no message without end. */
  const portion = (sessionId: string, assignments: Assignment[]): Assignment[] => {
    let bytes = 0;
    for (let i = 0; i < assignments.length; i++) {
      const { input, artifacts } = assignments[i]!;
      bytes += (input?.byteLength ?? 0) + artifacts.length * FILE_BYTES + LEASE_BYTES;
      if (i === 0 || bytes <= settings.batchBytes) continue;
      hold(sessionId, assignments.slice(i));
      return assignments.slice(0, i);
    }
    return assignments;
  };

  /** A function that was never leased before has nothing but its input. */
  const isNewFunction = ({ epoch, laneId }: Grant) =>
    epoch === 1 && lanes.get(laneId)?.tags.includes(FUNCTION_PROTOCOL_TAG) === true;

  /** Adds what did not ride along with the claim. */
  async function complete(
    grants: Grant[],
    claimedAt: number,
    devices: PlannedGrants['devices'] = NO_DEVICES,
  ): Promise<Assignment[]> {
    // Of what rides along, a task that was never leased before lacks but the name of its node: it has no checkpoint.
    const names = new Map<string, string>();
    for (const { runId, taskId, epoch } of grants) {
      const name = runId === null ? undefined : nodeNames.take(taskId);
      if (name !== undefined && epoch === 1) names.set(taskId, name);
    }
    const bare = grants.filter(
      (g) =>
        g.input === null ||
        lanes.get(g.laneId)?.executor !== 'function' ||
        (g.runId !== null && !isNewFunction(g) && !names.has(g.taskId)),
    );
    const specs =
      bare.length > 0
        ? await persist(
            () =>
              loadSpecs(
                pools.hot,
                bare.map((g) => g.taskId),
              ),
            env.random,
          )
        : undefined;
    const handed = grants.filter((g) => lanes.get(g.laneId)?.tags.includes(ARTIFACTS_TAG)).map((g) => g.taskId);
    const files =
      handed.length > 0 ? await persist(() => readArtifactInputs(pools.hot, handed), env.random) : undefined;
    return grants.map((grant) => {
      const spec = specs?.get(grant.taskId) ?? NO_SPEC;
      const nodeId = spec.nodeId ?? names.get(grant.taskId) ?? null;
      const artifacts = files?.get(grant.taskId) ?? NO_FILES;
      return assign(grant, claimedAt, spec, nodeId, artifacts, devices.get(grant.taskId) ?? NO_UUIDS);
    });
  }

  /** Field by field, for each of thousands a second. */
  function assign(
    grant: Grant,
    claimedAt: number,
    spec: Spec = NO_SPEC,
    nodeId: string | null = null,
    artifacts: readonly ArtifactInput[] = NO_FILES,
    devices: readonly string[] = NO_UUIDS,
  ): Assignment {
    const lane = lanes.get(grant.laneId)!;
    const loaded = spec.executor ? loadedExecutor(lane.executor, spec.executor) : PLAIN;
    return {
      sessionId: grant.sessionId,
      taskId: grant.taskId,
      laneId: grant.laneId,
      epoch: grant.epoch,
      attempt: grant.attempt,
      maxAttempts: grant.maxAttempts,
      startToCloseMs: grant.startToCloseMs,
      runId: grant.runId,
      encoding: grant.encoding,
      input: grant.input ?? spec.input,
      kind: lane.kind,
      executor: loaded.executor,
      environment: loaded.environment,
      nodeId,
      inputBlob: spec.inputBlob,
      progressTimeoutMs: spec.progressTimeoutMs,
      artifacts,
      checkpoint: spec.checkpoint,
      resources: lane.needs?.resources ?? null,
      devices,
      claimedAt,
    };
  }

  return {
    reserve,
    note: plans.note,
    hasDevices: plans.hasDevices,
    ended: plans.ended,
    offer(session, number, free, waitMs, abort, room = null) {
      const left = takeKept(session.id);
      if (left.length > 0) return Promise.resolve(portion(session.id, left));
      const older = offers.get(session.id);
      if ((older && older.number > number) || (spent.get(session.id) ?? -1n) >= number) return Promise.resolve([]);
      if (older) end(older, []);
      if (abort?.aborted || closed || free <= 0) return Promise.resolve([]);
      return new Promise((resolve) => {
        const offer: Offer = {
          sessionId: session.id,
          ability: session.ability,
          number,
          free,
          room,
          since: env.now(),
          urgent: waitMs <= 0,
          retryProbeAt: 0,
          asked: false,
          resolve: (assignments) => {
            clearTimeout(timer);
            abort?.removeEventListener('abort', onEnd);
            resolve(assignments);
          },
        };
        const onEnd = () => end(offer, []);
        const timer = waitMs > 0 ? setTimeout(onEnd, waitMs) : undefined;
        abort?.addEventListener('abort', onEnd, { once: true });
        offers.set(session.id, offer);
        newcomers.push(offer);
        run();
      });
    },
    release(sessionId) {
      const offer = offers.get(sessionId);
      if (offer) end(offer, []);
    },
    keep,
    fresh,
    discard(sessionId, leases) {
      if (!leases) spent.delete(sessionId);
      const kept = undelivered.get(sessionId);
      if (!kept) return;
      const gone = new Set(leases?.map((l) => `${l.taskId}.${l.epoch}`));
      const left = leases ? kept.filter((a) => !gone.has(`${a.taskId}.${a.epoch}`)) : [];
      if (left.length === 0) undelivered.delete(sessionId);
      else undelivered.set(sessionId, left);
    },
    arm,
    armed: () =>
      [...armed.keys()].map((id) => lanes.get(id)).filter((lane) => lane !== undefined && !lane.paused) as Lane[],
    armAll() {
      // Those that are armed too: a claim that is under way may have looked at them before whatever is the reason for this.
      for (const lane of lanes.all()) armed.set(lane.id, ++armings);
      if (offers.size > 0) pump();
    },
    dry: () => [...lanes.all()].filter((lane) => !lane.paused && !armed.has(lane.id)).map((lane) => lane.id),
    again() {
      if (offers.size > 0 && armed.size > 0) pump();
    },
    waiting: () => offers.size,
    hungry(longerThanMs) {
      const hungry: { sessionId: string; laneIds: number[] }[] = [];
      for (const { sessionId, ability, since, room } of offers.values()) {
        if (env.now() - since < longerThanMs || breakers.stateOf(ability.workerId) !== 'closed') continue;
        // Those with resources only where they would start at once: whoever holds one in advance has it wait for its device.
        const laneIds = [...lanes.all()]
          .filter(
            (lane) => canDo(ability, lane) && (!lane.needs?.resources || plans.hasRoom(ability, lane, room, false)),
          )
          .map((lane) => lane.id);
        if (laneIds.length > 0) hungry.push({ sessionId, laneIds });
      }
      return hungry;
    },
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      for (const offer of [...offers.values()]) end(offer, []);
    },
  };
}
