import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { startStack } from '@baton/testkit';
import { processesWith, readNotes } from './notes.ts';

/** A task that loses more workers than this with it counts as poison. */
const mostWorkerKills = 3;

export interface KillOptions {
  readonly kills: number;
  readonly seed: number;
  /** Of a Postgres. Default: that of the test run. */
  readonly databaseUrl?: string;
  readonly onKill?: (text: string) => void;
}

export interface KillReport {
  readonly result: unknown;
  readonly undisturbed: unknown;
  readonly kills: number;
  readonly byKind: Readonly<Record<string, number>>;
  /** Attempts that began. */
  readonly starts: number;
  readonly leftAlive: readonly number[];
  readonly tookMs: number;
}

/**
 * Runs the training loop while it is killed at random moments, `kills` times: its program by SIGKILL, its worker by SIGTERM (a drain) and now
 * and then by SIGKILL; and once more undisturbed.
 */
export async function killAtRandom({ kills, seed, databaseUrl, onKill = () => {} }: KillOptions): Promise<KillReport> {
  const from = performance.now();
  const random = randomOf(seed);
  await using stack = await startStack({ databaseUrl, workers: 2, env: { BATON_DRAIN_GRACE_MS: '50' } });
  const baton = createBaton({ url: stack.url });
  const notes = join(stack.home, 'notes');
  const command = ['python3', fileURLToPath(new URL('train.py', import.meta.url))];
  // More than it gets done while it is killed.
  const input = { steps: 300 * kills, every: 20, notes, pause: 0.003 };
  const task = await baton.submit({
    kind: 'train',
    input,
    executor: { type: 'process', command },
    environment: { set: { STAGE: stack.home } },
    retry: { maxAttempts: 1_000, initialDelayMs: 1, factor: 1 },
  });
  const byKind: Record<string, number> = { program: 0, drain: 0, worker: 0 };
  let killed = 0;
  let seen = 0;
  while (killed < kills) {
    // The next attempt has begun, and has done something.
    const start = readNotes(notes).findLast(({ what }) => what === 'start');
    if (start === undefined || start.epoch <= seen) {
      await sleep(5);
      if ((await baton.tasks.get(task.id)).endTime !== undefined) break;
      continue;
    }
    seen = start.epoch;
    await sleep(random() * 120);
    const dice = random();
    const kind = dice < 0.85 ? 'program' : dice < 0.97 || byKind.worker! >= mostWorkerKills ? 'drain' : 'worker';
    if (kind === 'program') {
      try {
        process.kill(start.pid!, 'SIGKILL');
      } catch {
        continue;
      }
    } else {
      const holder = (await task.status()).worker;
      const worker = stack.workers.find(({ name, running }) => name === holder && running);
      if (worker === undefined) continue;
      await worker.kill(kind === 'drain' ? 'SIGTERM' : 'SIGKILL');
      // Not waited for: the other one goes on.
      stack.launchWorker();
    }
    byKind[kind]!++;
    killed++;
    onKill(`${killed} of ${kills}: ${kind}, attempt ${start.attempt} that began at step ${start.from}`);
  }
  writeFileSync(`${notes}-hurry`, '');
  const result = await task.result();
  const leftAlive = processesWith(`STAGE=${stack.home}\0`, readdirSync('/proc'));
  const calm = await baton.submit({
    kind: 'train',
    input: { ...input, notes: `${notes}-calm`, pause: 0 },
    executor: { type: 'process', command },
  });
  const starts = readNotes(notes).filter(({ what }) => what === 'start').length;
  const undisturbed = await calm.result();
  return {
    result,
    undisturbed,
    kills: killed,
    byKind,
    starts,
    leftAlive,
    tookMs: Math.round(performance.now() - from),
  };
}

/** Mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
