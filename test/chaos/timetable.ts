import type { FaultKind } from './faults/index.ts';
import type { Random } from './random.ts';

export interface Appointment {
  /** From the beginning of the load. */
  readonly atMs: number;
  readonly fault: FaultKind;
}

/** Between two faults, on average. Most take longer, so they overlap. */
const MEAN_PAUSE_MS = 2_200;
const FIRST_AFTER_MS = 2_500;
/** The last ones begin so long before the end of the load. */
const NONE_IN_LAST_MS = 4_000;

/** When which fault is fired. A deck is dealt: first each fault once, then each as often as it has cards. */
export function drawTimetable(faults: readonly FaultKind[], random: Random, loadMs: number): Appointment[] {
  const timetable: Appointment[] = [];
  let deck = random.shuffle(faults);
  for (
    let atMs = FIRST_AFTER_MS;
    atMs < loadMs - NONE_IN_LAST_MS;
    atMs += MEAN_PAUSE_MS * (0.2 + 1.6 * random.next())
  ) {
    if (deck.length === 0) deck = random.shuffle(faults.flatMap((fault) => Array(fault.cards).fill(fault)));
    timetable.push({ atMs, fault: deck.pop()! });
  }
  return timetable;
}
