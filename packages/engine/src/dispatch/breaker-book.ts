import { type BreakerPolicy, type BreakerState, type BreakerView, nextStep, unrelated } from '@baton/domain';
import {
  adoptProbes,
  type BreakerStep,
  type BusyWorker,
  failingWorkers,
  type Incident,
  type Lane,
  livingWorkers,
  type OpenBreaker,
  readIncidents,
  readOpenBreakers,
  stepBreaker,
  workersOfSessions,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';
import { type Capabilities, canDo, toAbility } from './ability.ts';
import { durationText } from './blocker-words.ts';

/**
 * Circuit breakers as this master knows them, and their keeper. What is in memory here decides nothing: the claims' own guards do. A
 * book that is behind costs an empty claim, or a moment's wait.
 */
export interface BreakerBook {
  stateOf(workerId: number): BreakerState;
  /** Half-open, and without a probe as far as is known. */
  mayProbe(workerId: number): boolean;
  /** A probe was granted here. */
  noteProbe(workerId: number, taskId: string): void;
  isProbe(taskId: string): boolean;
  /** UUIDs of devices that no task may use now. */
  quarantined(workerId: number): readonly string[];
  /** Looks at every breaker, and at the worker of this session, which had a machine-made failure. Returns at once. */
  poke(sessionId?: string): void;
  /** As `poke`, where there may be something to see: a breaker is not closed or a failure is new, or that is not known yet. */
  lookAgain(isAny: boolean): void;
  /** Looks at this worker before it returns: it registers. */
  examine(workerId: number): Promise<void>;
  stop(): Promise<void>;
}

/** Failures of the last while are looked at by every sweep: whoever wrote them may have died before it looked. */
const LATELY_MS = 60_000;
const MOST_STEPS = 5;

/**
 * @param onMoved told that work may go where it could not go before
 * @param mayHaveWork lanes in which something may be ready
 */
export function createBreakerBook(env: EngineEnvironment, onMoved: () => void, mayHaveWork: () => Lane[]): BreakerBook {
  const { pools, settings } = env;
  let workers = new Map<number, { state: BreakerState; probing: boolean }>();
  let devices = new Map<number, string[]>();
  let probes = new Set<string>();
  let failed = new Set<string>();
  let looked = false;
  let again = false;
  let running: Promise<void> | null = null;
  let stopped = false;

  function remember(open: readonly OpenBreaker[]): void {
    workers = new Map();
    devices = new Map();
    probes = new Set();
    for (const breaker of open) {
      const { workerId, device, state, probeTaskId } = breaker;
      if (probeTaskId !== null) probes.add(probeTaskId);
      if (device === '') workers.set(workerId, { state, probing: probeTaskId !== null });
      else if (state === 'open') devices.set(workerId, [...(devices.get(workerId) ?? []), device].sort());
    }
  }

  async function step(s: BreakerStep): Promise<boolean> {
    const done = await persist(() => stepBreaker(pools.lease, s), env.random);
    if (done && s.from !== s.to)
      env.log.warn('breaker moved', {
        worker_id: s.workerId,
        device: s.device,
        from: s.from,
        to: s.to,
        reason: s.reason,
      });
    return done;
  }

  /** Opens what has failed too often. */
  async function examineWorkers(workerIds: readonly number[]): Promise<boolean> {
    if (workerIds.length === 0) return false;
    const { windowMs } = settings.breaker;
    const incidents = await persist(() => readIncidents(pools.lease, workerIds, windowMs), env.random);
    let moved = false;
    for (const sight of failuresOf(incidents)) {
      if (sight.state !== 'closed') continue;
      const closed = { state: sight.state, successes: 0, forMs: 0, isSole: false, probe: null, failedSince: false };
      const next = nextStep({ ...closed, failures: sight.failures }, settings.breaker);
      if (next) {
        const reason = openedBy(sight.failures, settings.breaker);
        moved =
          (await step({ ...sight, ...stepOf(next), from: 'closed', probeTaskId: null, probeEpoch: null, reason })) ||
          moved;
      }
    }
    return moved;
  }

  /** Whether the worker of an open breaker has work waiting that no living worker with a closed one could take. */
  async function isSole({ workerId, namespaceId, device, state, forMs }: OpenBreaker): Promise<boolean> {
    const { soleOpenMs, openMs } = settings.breaker;
    if (device !== '' || state !== 'open' || forMs < soleOpenMs || forMs >= openMs) return false;
    const living = await persist(() => livingWorkers(pools.lease, namespaceId), env.random);
    const able = (worker: BusyWorker) => toAbility({ ...worker, capabilities: worker.capabilities as Capabilities });
    const me = living.find((worker) => worker.workerId === workerId && worker.state === 'active');
    if (!me) return false;
    const others = living.filter((worker) => !worker.heldBack && worker.state === 'active').map(able);
    return mayHaveWork().some((lane) => canDo(able(me), lane) && !others.some((other) => canDo(other, lane)));
  }

  /** Moves those that are not closed as far as they go now. */
  async function moveOpen(): Promise<boolean> {
    let movedAny = false;
    for (let round = 0; round < MOST_STEPS; round++) {
      const open = await persist(() => readOpenBreakers(pools.lease), env.random);
      let moved = false;
      for (const breaker of open) {
        const next = nextStep({ ...breaker, failures: 0, isSole: await isSole(breaker) }, settings.breaker);
        if (!next) continue;
        const reason = reasonOf(breaker, next, settings.breaker);
        moved = (await step({ ...breaker, ...stepOf(next), from: breaker.state, reason })) || moved;
      }
      remember(open);
      if (!moved) {
        if (open.some((b) => b.device !== '' && b.state === 'half_open' && b.probeTaskId === null))
          await persist(() => adoptProbes(pools.lease), env.random);
        break;
      }
      movedAny = true;
    }
    return movedAny;
  }

  async function look(): Promise<void> {
    const sessions = [...failed];
    failed = new Set();
    try {
      const lately = await failingWorkers(pools.lease, looked ? LATELY_MS : settings.breaker.windowMs);
      const named = sessions.length > 0 ? await workersOfSessions(pools.lease, sessions) : [];
      const opened = await examineWorkers([...new Set([...lately, ...named])]);
      looked = true;
      const moved = await moveOpen();
      if (opened || moved) onMoved();
    } catch (error) {
      for (const session of sessions) failed.add(session);
      env.log.warn('looking at breakers failed', { error: String(error) });
    }
  }

  function poke(sessionId?: string): void {
    if (sessionId !== undefined) failed.add(sessionId);
    if (stopped) return;
    if (running) {
      again = true;
      return;
    }
    running = look().finally(() => {
      running = null;
      if (again && !stopped) {
        again = false;
        poke();
      }
    });
  }

  return {
    stateOf: (workerId) => workers.get(workerId)?.state ?? 'closed',
    mayProbe(workerId) {
      const known = workers.get(workerId);
      return known?.state === 'half_open' && !known.probing;
    },
    noteProbe(workerId, taskId) {
      probes.add(taskId);
      const known = workers.get(workerId);
      if (known) known.probing = true;
    },
    isProbe: (taskId) => probes.has(taskId),
    quarantined: (workerId) => devices.get(workerId) ?? [],
    poke,
    lookAgain(isAny) {
      // What is known of open ones may have been closed by another master.
      if (isAny || !looked || failed.size > 0 || workers.size > 0 || devices.size > 0) poke();
    },
    async examine(workerId) {
      const opened = await examineWorkers([workerId]);
      if (opened || !looked) remember(await persist(() => readOpenBreakers(pools.lease), env.random));
    },
    async stop() {
      stopped = true;
      await running;
    },
  };
}

/** Failures of each worker and device that have nothing in common, from its incidents. */
export function failuresOf(incidents: readonly Incident[]): {
  workerId: number;
  device: string;
  state: BreakerState;
  countedFrom: string | null;
  failures: number;
}[] {
  const groups = new Map<string, Incident[]>();
  for (const incident of incidents) {
    const key = `${incident.workerId} ${incident.device}`;
    const group = groups.get(key);
    if (group) group.push(incident);
    else groups.set(key, [incident]);
  }
  return [...groups.values()].map((group) => {
    const { workerId, device, state, countedFrom } = group[0]!;
    const failures = unrelated(group.map((incident) => incident.taskIds));
    return { workerId, device, state: state ?? 'closed', countedFrom, failures };
  });
}

function stepOf(next: BreakerView): Pick<BreakerStep, 'to' | 'successes'> {
  return { to: next.state, successes: next.successes };
}

function openedBy(failures: number, policy: BreakerPolicy): string {
  return `${failures} machine-made failures within ${durationText(policy.windowMs)} that have no task in common`;
}

function reasonOf(breaker: OpenBreaker, next: BreakerView, policy: BreakerPolicy): string {
  if (next.state === 'closed') return `${policy.successes} probes in a row succeeded`;
  if (next.state === 'half_open') return `open for ${Math.round(breaker.forMs / 1000)} s`;
  return breaker.probe === 'machine_failure'
    ? `the machine failed its probe, task ${breaker.probeTaskId}`
    : 'the device failed again while it was tried';
}
