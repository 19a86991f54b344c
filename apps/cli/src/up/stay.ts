import type { Screen } from '../terminal/screen.ts';
import type { StopSignals } from './stop-signals.ts';

/** What ends in order, and at once. */
export interface Stoppable {
  stop(): Promise<void>;
}

/** Waits for the first signal, then until everything has ended in order. The second signal is the caller's to act on. */
export async function stayUntilStopped(running: Stoppable, signals: StopSignals, screen: Screen): Promise<void> {
  const signal = await signals.first;
  screen.note({ text: `${signal}: workers finish what they hold; once more ends everything at once`, style: 'dim' });
  await running.stop();
  screen.note({ text: 'everything is stopped; the data is kept', style: 'dim' });
}
