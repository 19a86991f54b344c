import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault } from '@baton/testkit/history';
import type { FaultScene } from './faults/index.ts';
import type { Random } from './random.ts';
import { nowMs } from './recorder.ts';
import type { Appointment } from './timetable.ts';

export interface Storm {
  /** Those that hit something. */
  readonly fired: readonly Fault[];
  /** Names of those that found nothing to hit, once for each time. */
  readonly missed: readonly string[];
}

/** Fires the faults of a timetable at their times, overlapping as they do. Resolves when the last one is over. */
export async function storm(
  scene: FaultScene,
  timetable: readonly Appointment[],
  random: Random,
  log: (line: string) => void,
): Promise<Storm> {
  const fired: Fault[] = [];
  const missed: string[] = [];
  const began = performance.now();
  const under: Promise<void>[] = [];
  const fire = async ({ fault }: Appointment, number: number): Promise<void> => {
    const atMs = nowMs();
    try {
      const target = await fault.fire(scene, random.fork(`fault-${number}`));
      if (target === undefined) missed.push(fault.name);
      else fired.push({ kind: fault.name, atMs, untilMs: nowMs(), target });
      log(`${fault.name}: ${target ?? 'nothing to hit'}`);
    } catch (error) {
      // Another fault was in its way: the database was down, no master was there.
      missed.push(fault.name);
      log(`${fault.name}: not fired, ${String(error).slice(0, 200)}`);
    }
  };
  for (const [number, appointment] of timetable.entries()) {
    await sleep(Math.max(0, began + appointment.atMs - performance.now()));
    under.push(fire(appointment, number));
  }
  await Promise.all(under);
  return { fired, missed };
}
