// What the workers of these tests can do. A task that has to wait for its test waits for a file, so nobody waits for time.
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { NonRetryable, RetryAfter, task } from '@baton/client';

export const echo = task({ id: 'echo', run: (input: unknown) => input });

export const sum = task({ id: 'sum', run: (input: { a: number; b: number }) => input.a + input.b });

/** Runs until the file is there; returns `value`. */
export const gated = task({
  id: 'gated',
  run: async (input: { file: string; value?: unknown }, { signal }) => {
    while (!existsSync(input.file)) await pause(10, undefined, { signal });
    return input.value;
  },
});

export const fails = task({
  id: 'fails',
  run: (input: { message: string }) => {
    throw new RangeError(input.message);
  },
});

/** Fails for so many attempts, then returns the number of the attempt. */
export const failsTimes = task({
  id: 'fails-times',
  run: (input: { times: number }, { attempt }) => {
    if (attempt <= input.times) throw new Error(`attempt ${attempt} had to fail`);
    return attempt;
  },
});

/** Fails until the file is there. */
export const failsUntil = task({
  id: 'fails-until',
  run: (input: { file: string }, { attempt }) => {
    if (!existsSync(input.file)) throw new Error(`${input.file} is not there`);
    return `found in attempt ${attempt}`;
  },
});

/** Returns a text that Postgres cannot keep. */
export const unstorable = task({ id: 'unstorable', run: () => ({ rows: ['fine', 'a\u0000b'] }) });

export const hopeless = task({
  id: 'hopeless',
  run: () => {
    throw new NonRetryable('no further attempt makes sense');
  },
});

export const patient = task({
  id: 'patient',
  run: (input: { delayMs: number }, { attempt }) => {
    if (attempt === 1) throw new RetryAfter(input.delayMs);
    return attempt;
  },
});

/** Notes its name in a file, so that a test sees the order in which tasks ran. */
export const note = task({
  id: 'note',
  run: (input: { file: string; name: string }) => appendFileSync(input.file, `${input.name}\n`),
});

/** Writes lines, waits for the file, writes one more. */
export const chatty = task({
  id: 'chatty',
  run: async (input: { lines: number; file?: string }, { log, signal }) => {
    for (let line = 1; line <= input.lines; line++) log(`line ${line}`);
    while (input.file && !existsSync(input.file)) await pause(10, undefined, { signal });
    log('the end');
  },
});

/** Writes a line again and again until the file is there, and a last one then. */
export const ticks = task({
  id: 'ticks',
  run: async (input: { file: string }, { log, signal }) => {
    for (let tick = 1; !existsSync(input.file); tick++) {
      log(`tick ${tick}`);
      await pause(10, undefined, { signal });
    }
    log('the end');
  },
});

export const reversed = task({ id: 'reversed', run: (input: Uint8Array) => input.toReversed() });

export const big = task({ id: 'big', run: (input: { bytes: number }) => 'x'.repeat(input.bytes) });
