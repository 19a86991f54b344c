import type { Random } from '@baton/store/testing';

export const FAULTS = [
  'kill_worker',
  'stop_worker',
  'drain_worker',
  'second_worker',
  'kill_master',
  'stop_master',
  'cut_worker',
  'cut_master_from_postgres',
  'postgres_down',
  'bad_network',
  'bad_connections',
  'pause_lane',
  'replay',
] as const;
export type FaultKind = (typeof FAULTS)[number];

export interface PlannedFault {
  kind: FaultKind;
  atMs: number;
  lastsMs: number;
  /** Which worker, master or lane: modulo how many there are. */
  target: number;
  /** 0 to 1: how bad. */
  badness: number;
}

/** At least 10, most of them short, some far longer than a lease. */
export function planFaults(random: Random, untilMs: number): PlannedFault[] {
  const plan: PlannedFault[] = [];
  const count = 10 + random.below(7);
  for (let n = 0; n < count; n++) {
    const kind = random.chance(0.2) ? random.pick(['stop_worker', 'stop_master'] as const) : random.pick(FAULTS);
    const long = random.chance(kind === 'stop_worker' || kind === 'stop_master' ? 0.6 : 0.35);
    plan.push({
      kind,
      atMs: 500 + random.next() * (untilMs - 3_000),
      lastsMs: long ? 5_000 + random.next() * 5_000 : 300 + random.next() * 2_500,
      target: random.below(1000),
      badness: random.next(),
    });
  }
  return plan.sort((a, b) => a.atMs - b.atMs);
}
