import { setTimeout as sleep } from 'node:timers/promises';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';
import { inspectPostgres } from './inspect.ts';
import { placesOf } from './location.ts';
import { withLock } from './lock.ts';
import { describeProcess } from './process.ts';

/** smart waits for clients to leave, fast sends them away, immediate skips the checkpoint (recovery at next start). */
export type StopMode = 'smart' | 'fast' | 'immediate';

export interface StopOptions {
  /** Default 'fast'. */
  readonly mode?: StopMode;
  /** How long to wait for the process to be gone; default 60 000. */
  readonly timeoutMs?: number;
}

const SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/**
 * Stops the server of a data directory, whoever started it, and waits until its process is gone.
 * @returns whether there was one to stop.
 * @throws EmbeddedPostgresError STOP_TIMEOUT, NO_PERMISSION
 */
export async function stopPostgres(dataDir: string, options: StopOptions = {}): Promise<boolean> {
  const { mode = 'fast', timeoutMs = 60_000 } = options;
  if ((await inspectPostgres(dataDir)).state !== 'running') return false;
  return withLock(placesOf(dataDir).lockFile, timeoutMs, async () => {
    const found = await inspectPostgres(dataDir);
    if (found.state !== 'running') return false;
    try {
      process.kill(found.pid, SIGNALS[mode]);
    } catch (cause) {
      if (errnoOf(cause) === 'ESRCH') return true;
      throw new EmbeddedPostgresError('NO_PERMISSION', `process ${found.pid} is another user's`, { cause });
    }
    await waitUntilGone(found.pid, performance.now() + timeoutMs, mode);
    return true;
  });
}

export async function waitUntilGone(pid: number, deadline: number, mode: string): Promise<void> {
  while ((await describeProcess(pid)) !== undefined) {
    if (performance.now() > deadline) {
      throw new EmbeddedPostgresError('STOP_TIMEOUT', `PostgreSQL (pid ${pid}) did not stop (${mode})`, {
        hint: mode === 'smart' ? 'clients are still connected: stop with fast' : 'stop with immediate',
      });
    }
    await sleep(10);
  }
}
