import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault } from '@baton/testkit/history';
import type { FaultScene } from './faults/index.ts';
import type { Random } from './random.ts';
import { nowMs } from './recorder.ts';
import type { Appointment } from './timetable.ts';

/** What found nothing to hit, because of another fault mostly, is tried again. */
const MOST_TRIES = 8;

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
  const tryOnce = async ({ fault }: Appointment, drawn: Random): Promise<string | undefined> => {
    try {
      return await fault.fire(scene, drawn);
    } catch (error) {
      // Another fault was in its way: the database was down, no master was there.
      log(`${fault.name}: not fired, ${String(error).slice(0, 200)}`);
      return undefined;
    }
  };
  const fire = async (appointment: Appointment, number: number): Promise<void> => {
    const { fault } = appointment;
    for (let tries = 1; tries <= (fault.optional ? 1 : MOST_TRIES); tries++) {
      const atMs = nowMs();
      const target = await tryOnce(appointment, random.fork(`fault-${number}-${tries}`));
      log(`${fault.name}: ${target ?? 'nothing to hit'}`);
      if (target !== undefined) {
        fired.push({ kind: fault.name, atMs, untilMs: nowMs(), target });
        return;
      }
      await sleep(1_500);
    }
    missed.push(fault.name);
  };
  for (const [number, appointment] of timetable.entries()) {
    await sleep(Math.max(0, began + appointment.atMs - performance.now()));
    under.push(fire(appointment, number));
  }
  await Promise.all(under);
  return { fired, missed };
}
