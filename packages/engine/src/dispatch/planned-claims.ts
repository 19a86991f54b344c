import {
  NEW_RECORD,
  type OfferingWorker,
  type Placement,
  plan,
  type ReadyTask,
  type Resources,
  recordAfter,
  type Strategy,
  shortages,
  type WorkerRecord,
} from '@baton/domain';
import {
  claimPlanned,
  type DeviceKey,
  type Grant,
  type Head,
  type Lane,
  type PlannedClaim,
  peekHeads,
  readHeldDevices,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';
import type { Ability } from './capabilities.ts';
import type { LaneBook } from './lane-book.ts';
import { laneFit, resourcesOf } from './needs.ts';

/** What a worker has free beside slots, as its offer says. */
export interface OfferRoom {
  cpus: number;
  memoryBytes: number;
  /** Devices that none of its leases has. */
  devices: readonly { uuid: string; freeMemoryBytes: number }[];
  /** Devices that one of its leases has, and for which one more may wait there. Default: none. */
  nextDevices?: readonly string[];
  /** Kinds for which it keeps something ready. */
  warm: readonly string[];
  /** Of its free slots, those for tasks with resources: they start at once there, or next. */
  resourceSlots: number;
}

/** An offer as a plan sees it. */
export interface PlannedOffer {
  sessionId: string;
  ability: Ability;
  free: number;
  room: OfferRoom | null;
  laneIds: ReadonlySet<number>;
}

export interface PlannedGrants {
  grants: Grant[];
  /** By task. */
  devices: ReadonlyMap<string, readonly string[]>;
  /** Lanes in which nothing more is ready. */
  drained: readonly number[];
  /** Lanes of tasks that were planned and not granted: others were faster, or something is not as it is believed here. */
  missed: readonly number[];
}

/**
 * Claims by a plan: of lanes whose tasks have resources, and of queues that are given out otherwise than by priority. Everything here
 * is memory of one master, which decides nothing that must be true: the claim's statement guards.
 */
export interface PlannedClaims {
  /** Whether this lane's tasks are given out by a plan to this worker; else by the plain claim. */
  isPlanned(ability: Ability, lane: Lane, room: OfferRoom | null): boolean;
  /** Whether one of its tasks would find room: so that it starts now, or (`mayWait`) as the next on a device. */
  hasRoom(ability: Ability, lane: Lane, room: OfferRoom | null, mayWait: boolean): boolean;
  claim(offers: readonly PlannedOffer[], perLane: number): Promise<PlannedGrants>;
  /** One task, to see whether a worker is well again. */
  claimProbe(offer: PlannedOffer): Promise<PlannedGrants>;
  /** The task was given devices here. */
  hasDevices(taskId: string): boolean;
  /** These tasks have ended: their devices may be given again. */
  ended(taskIds: readonly string[]): void;
  /** A task has ended there. */
  note(workerId: number, succeeded: boolean, ranMs: number): void;
  recordOf(workerId: number): WorkerRecord;
}

/** What earlier plans of a round have given of an offer. */
interface Used {
  slots: number;
  resourceSlots: number;
  cpus: number;
  memoryBytes: number;
  devices: Set<string>;
}

function use(
  used: Map<string, Used>,
  sessionId: string,
  resources: Resources | null,
  devices: readonly string[],
  waits: boolean,
): void {
  const sum = used.get(sessionId) ?? { slots: 0, resourceSlots: 0, cpus: 0, memoryBytes: 0, devices: new Set() };
  used.set(sessionId, sum);
  sum.slots++;
  if (!resources) return;
  if (!waits) sum.resourceSlots++;
  sum.cpus += resources.cpus;
  sum.memoryBytes += resources.memoryBytes;
  for (const uuid of devices) sum.devices.add(uuid);
}

/** A device that a claim found taken is not tried again before, ms. */
const TAKEN_MS = 1_000;
/** Kinds of a worker whose devices are remembered. */
const MOST_KINDS = 500;
/** Tasks with devices that are remembered: those whose end another master was told are dropped in time. */
const MOST_HOLDING = 100_000;
/** As drivers name devices, and their slices: unique in the world. */
const REAL_UUID = /^(?:GPU|MIG)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** What makes a device of a worker one: real ones are, whoever has them; those of a simulation are a worker's own. */
export function deviceKey(ability: Pick<Ability, 'workerId' | 'gpus'>, uuid: string): DeviceKey {
  const isReal = REAL_UUID.test(uuid) && ability.gpus.some((gpu) => gpu.uuid === uuid && !gpu.simulated);
  return { scope: isReal ? 0 : ability.workerId, uuid };
}

/** @param onFreed told when devices that were taken may be tried again */
export function createPlannedClaims(env: EngineEnvironment, lanes: LaneBook, onFreed: () => void): PlannedClaims {
  const { pools, settings } = env;
  const records = new Map<number, WorkerRecord>();
  const affinities = new Map<number, Map<string, readonly string[]>>();
  /** Devices that were found leased, which their workers do not know, and until when that is believed. */
  const taken = new Map<string, number>();
  /** Tasks that were given devices here, of which no end has been heard here. */
  const holding = new Map<string, readonly DeviceKey[]>();
  /** By strategy and placement: whom round_robin served last. */
  const last = new Map<string, string>();
  const keyText = ({ scope, uuid }: DeviceKey) => `${scope}/${uuid}`;

  const planningOf = (lane: Lane): { strategy: Strategy; placement: Placement } => {
    const own = lanes.planningOf(lane);
    return { strategy: own?.strategy ?? settings.strategy, placement: own?.placement ?? settings.placement };
  };

  function isFree(ability: Ability, uuid: string): boolean {
    if (ability.quarantinedDevices.includes(uuid)) return false;
    const until = taken.size === 0 ? undefined : taken.get(keyText(deviceKey(ability, uuid)));
    return until === undefined || until <= env.now();
  }

  function freeDevices(ability: Ability, room: OfferRoom | null): OfferingWorker['devices'] {
    return (room?.devices ?? []).flatMap(({ uuid, freeMemoryBytes }) => {
      const gpu = ability.gpus.find((each) => each.uuid === uuid);
      if (!gpu || !isFree(ability, uuid)) return [];
      return [{ uuid, model: gpu.model, memoryBytes: Math.min(gpu.memoryBytes, freeMemoryBytes || gpu.memoryBytes) }];
    });
  }

  function nextDevices(ability: Ability, room: OfferRoom | null): OfferingWorker['devices'] {
    return (room?.nextDevices ?? []).flatMap((uuid) => {
      const gpu = ability.gpus.find((each) => each.uuid === uuid);
      if (!gpu || !isFree(ability, uuid)) return [];
      return [{ uuid, model: gpu.model, memoryBytes: gpu.memoryBytes, isNext: true }];
    });
  }

  function offering(offer: PlannedOffer, used: Used | undefined): OfferingWorker {
    const { ability, room, sessionId } = offer;
    const devices = [...freeDevices(ability, room), ...nextDevices(ability, room)].filter(
      (device) => !used?.devices.has(device.uuid),
    );
    return {
      id: sessionId,
      name: ability.workerName,
      slots: offer.free - (used?.slots ?? 0),
      resourceSlots: (room?.resourceSlots ?? 0) - (used?.resourceSlots ?? 0),
      cpus: (room?.cpus ?? 0) - (used?.cpus ?? 0),
      memoryBytes: (room?.memoryBytes ?? 0) - (used?.memoryBytes ?? 0),
      devices,
      gpus: ability.gpus.length,
      busy: Math.max(0, ability.slots - offer.free) + (used?.slots ?? 0),
      ...recordOf(ability.workerId),
      warm: new Set(room?.warm),
      affinity: affinities.get(ability.workerId) ?? new Map(),
    };
  }

  const recordOf = (workerId: number): WorkerRecord => records.get(workerId) ?? NEW_RECORD;

  /** Proposes grants for these heads, lanes of one way of planning after the other, the most urgent first. */
  function propose(heads: readonly Head[], offers: readonly PlannedOffer[]): PlannedClaim[] {
    const byWay = new Map<string, { strategy: Strategy; placement: Placement; heads: Head[] }>();
    for (const head of heads) {
      const { strategy, placement } = planningOf(lanes.get(head.laneId)!);
      const key = `${strategy} ${placement}`;
      const way = byWay.get(key) ?? { strategy, placement, heads: [] };
      byWay.set(key, way);
      way.heads.push(head);
    }
    const urgency = (way: { heads: Head[] }) =>
      way.heads.reduce((most, head) => Math.max(most, head.priority), -Infinity);
    const bySession = new Map(offers.map((offer) => [offer.sessionId, offer]));
    const laneOf = new Map(heads.map((head) => [head.taskId, head.laneId]));
    const used = new Map<string, Used>();
    const claims: PlannedClaim[] = [];
    for (const [key, way] of [...byWay].sort(([, a], [, b]) => urgency(b) - urgency(a))) {
      const workers = offers.map((offer) => offering(offer, used.get(offer.sessionId)));
      const tasks = way.heads.map(readyTask);
      const proposed = plan(tasks, workers, {
        strategy: way.strategy,
        placement: way.placement,
        last: last.get(key) ?? '',
        fit: (worker, task) => {
          const offer = bySession.get(worker.id)!;
          if (!offer.laneIds.has(task.laneId)) return false;
          const { resources, devices } = laneFit(offer.ability, lanes.get(task.laneId)!);
          return { resources, mayUse: (uuid) => devices.has(uuid) };
        },
      });
      last.set(key, proposed.last);
      for (const grant of proposed.grants) {
        const { ability } = bySession.get(grant.workerId)!;
        const lane = lanes.get(laneOf.get(grant.taskId)!)!;
        const next = bySession.get(grant.workerId)!.room?.nextDevices ?? [];
        const waits = grant.devices.some((uuid) => next.includes(uuid));
        use(used, grant.workerId, laneFit(ability, lane).resources, grant.devices, waits);
        const devices = grant.devices.map((uuid) => ({ ...deviceKey(ability, uuid), isNext: next.includes(uuid) }));
        claims.push({ taskId: grant.taskId, sessionId: grant.workerId, devices });
      }
    }
    return claims;
  }

  function readyTask(head: Head): ReadyTask {
    const lane = lanes.get(head.laneId)!;
    return { ...head, id: head.taskId, kind: lane.kind, resources: resourcesOf(lane) };
  }

  async function carryOut(
    heads: readonly Head[],
    claims: readonly PlannedClaim[],
    offers: readonly PlannedOffer[],
    isProbe: boolean,
  ): Promise<Omit<PlannedGrants, 'drained'>> {
    if (claims.length === 0) return { grants: [], devices: new Map(), missed: [] };
    let grants: Grant[] = [];
    try {
      grants = await persist(() => claimPlanned(pools.hot, claims, isProbe), env.random);
    } catch (error) {
      // Another master granted one of the devices at this moment. Nothing was granted here; what is free now is looked at below.
      if ((error as { code?: string }).code !== '23505') throw error;
    }
    const granted = new Set(grants.map((grant) => grant.taskId));
    const missed = claims.filter((claim) => !granted.has(claim.taskId));
    // Those that were to wait for a device know that it is leased.
    const wanted = missed.flatMap((claim) => claim.devices.filter((device) => !device.isNext));
    if (wanted.length > 0) await noteTaken(wanted);
    const devices = new Map<string, readonly string[]>();
    const laneOf = new Map(heads.map((head) => [head.taskId, head.laneId]));
    const workers = new Map(offers.map((offer) => [offer.sessionId, offer.ability.workerId]));
    for (const claim of claims) {
      if (claim.devices.length === 0 || !granted.has(claim.taskId)) continue;
      const uuids = claim.devices.map((device) => device.uuid);
      devices.set(claim.taskId, uuids);
      holding.set(claim.taskId, claim.devices);
      if (holding.size > MOST_HOLDING) holding.delete(holding.keys().next().value!);
      noteAffinity(workers.get(claim.sessionId)!, lanes.get(laneOf.get(claim.taskId)!)!.kind, uuids);
    }
    return { grants, devices, missed: [...new Set(missed.map((claim) => laneOf.get(claim.taskId)!))] };
  }

  async function noteTaken(wanted: readonly DeviceKey[]): Promise<void> {
    const held = await persist(() => readHeldDevices(pools.hot, wanted), env.random);
    const now = env.now();
    for (const [key, until] of taken) if (until <= now) taken.delete(key);
    for (const device of held) taken.set(keyText(device), now + TAKEN_MS);
    if (held.length > 0) setTimeout(onFreed, TAKEN_MS + 1);
  }

  function noteAffinity(workerId: number, kind: string, uuids: readonly string[]): void {
    let kinds = affinities.get(workerId);
    if (!kinds) {
      kinds = new Map();
      affinities.set(workerId, kinds);
    }
    // Of several devices that the kind has been on, the newest first: more than one of its tasks may run at once.
    const before = (kinds.get(kind) ?? []).filter((uuid) => !uuids.includes(uuid));
    kinds.delete(kind);
    kinds.set(kind, [...uuids, ...before].slice(0, 64));
    if (kinds.size > MOST_KINDS) kinds.delete(kinds.keys().next().value!);
  }

  async function peek(laneIds: readonly number[], perLane: number): Promise<Head[]> {
    const byAge = laneIds.filter((id) => planningOf(lanes.get(id)!).strategy === 'fifo');
    const byPriority = laneIds.filter((id) => !byAge.includes(id));
    const read = (ids: number[], isByAge: boolean) =>
      ids.length === 0 ? [] : persist(() => peekHeads(pools.hot, ids, perLane, isByAge), env.random);
    const [a, b] = await Promise.all([read(byPriority, false), read(byAge, true)]);
    return [...a, ...b];
  }

  return {
    isPlanned(ability, lane, room) {
      if (lane.needs?.resources) return true;
      if (lane.taskClass === 'gpu' && room && laneFit(ability, lane).resources) return true;
      const { strategy } = planningOf(lane);
      return strategy !== 'priority' && strategy !== 'work_stealing';
    },

    hasRoom(ability, lane, room, mayWait) {
      const { resources, devices } = laneFit(ability, lane);
      if (!resources) return true;
      if (!room) return false;
      const { cpus, memoryBytes } = room;
      const fits = (of: OfferingWorker['devices']) =>
        shortages({ cpus, memoryBytes, devices: of.filter((device) => devices.has(device.uuid)) }, resources).length ===
        0;
      if (room.resourceSlots > 0 && fits(resources.gpus === 0 ? [] : freeDevices(ability, room))) return true;
      return mayWait && resources.gpus === 1 && fits(nextDevices(ability, room));
    },

    async claim(offers, perLane) {
      const laneIds = [...new Set(offers.flatMap((offer) => [...offer.laneIds]))];
      const heads = await peek(laneIds, perLane);
      const claims = propose(heads, offers);
      const done = await carryOut(heads, claims, offers, false);
      const granted = new Set(done.grants.map((grant) => grant.taskId));
      const left = new Set<number>();
      const seen = new Map<number, number>();
      for (const head of heads) {
        seen.set(head.laneId, (seen.get(head.laneId) ?? 0) + 1);
        if (!granted.has(head.taskId)) left.add(head.laneId);
      }
      const drained = laneIds.filter((id) => !left.has(id) && (seen.get(id) ?? 0) < perLane);
      return { ...done, drained };
    },

    async claimProbe(offer) {
      const heads = await peek([...offer.laneIds], 1);
      const claims = propose(heads, [{ ...offer, free: 1 }]);
      const done = await carryOut(heads, claims, [offer], true);
      return { ...done, drained: [] };
    },

    hasDevices: (taskId) => holding.has(taskId),
    ended(taskIds) {
      for (const taskId of taskIds) {
        for (const device of holding.get(taskId) ?? []) taken.delete(keyText(device));
        holding.delete(taskId);
      }
    },
    note(workerId, succeeded, ranMs) {
      records.set(workerId, recordAfter(recordOf(workerId), succeeded, ranMs));
    },
    recordOf,
  };
}
