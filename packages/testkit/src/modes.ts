import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startStandalone } from '@baton/cli/standalone';
import { loadTasks } from '@baton/worker';
import { beforeAll, describe } from 'vitest';
import { testDatabase } from './database.ts';
import { useStack } from './vitest.ts';

export type Mode = 'standalone' | 'cluster';

/** Baton, however it runs. */
export interface ModeStack {
  readonly mode: Mode;
  /** Of its master. */
  readonly url: string;
  readonly databaseUrl: string;
  /** A directory for files of the tests; removed at the end. */
  readonly home: string;
}

export interface ModeOptions {
  /** Of a module that exports tasks and durable functions. */
  readonly tasksModule: URL;
  /** Of each worker. Default 4. */
  readonly slots?: number;
  /** Where they are processes of their own. Default 1. */
  readonly workers?: number;
}

/**
 * The same tests twice: on a Baton that is one process, this one (`startStandalone`), and on a master and a worker that are processes of
 * their own. What kills processes, or has many of them, belongs elsewhere.
 *
 * ```ts
 * inBothModes({ tasksModule: new URL('./tasks.ts', import.meta.url) }, (stack) => {
 *   test('…', async () => { createBaton({ url: stack().url }) … });
 * });
 * ```
 */
export function inBothModes(options: ModeOptions, tests: (stack: () => ModeStack) => void): void {
  describe('standalone', () => tests(useStandalone(options)));
  describe('on a master and a worker', () => {
    const stack = useStack({
      tasksModule: options.tasksModule,
      workers: options.workers,
      workerEnv: { BATON_WORKER_SLOTS: String(options.slots ?? 4) },
    });
    tests(() => {
      const { url, databaseUrl, home } = stack();
      return { mode: 'cluster', url, databaseUrl, home };
    });
  });
}

function useStandalone({ tasksModule, slots = 4 }: ModeOptions): () => ModeStack {
  let running: ModeStack | undefined;
  beforeAll(async () => {
    const home = await mkdtemp(join(tmpdir(), 'baton-alone-'));
    const database = await testDatabase();
    const standalone = await startStandalone({
      tasks: await loadTasks([fileURLToPath(tasksModule)]),
      slots,
      databaseUrl: database.url,
      settings: { sweepIntervalMs: 100 },
    });
    running = { mode: 'standalone', url: standalone.url, databaseUrl: database.url, home };
    return async () => {
      await standalone.stop();
      await database.drop();
      await rm(home, { recursive: true, force: true });
    };
  });
  return () => running!;
}
