// What the workers of the tests of streams can do. Bytes are numbered, so that a hole or a repetition shows at any place.
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { task } from '@baton/client';

/** Bytes from an offset on: a pattern whose period no block size divides. */
export function patternBytes(from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const n = from + i;
    bytes[i] = (n ^ (n >>> 8) ^ (n >>> 16)) % 251;
  }
  return bytes;
}

/** Streams so many bytes of the pattern in blocks, then waits for the file; says what its process had in memory at most. */
export const pours = task({
  id: 'pours',
  run: async (input: { bytes: number; block: number; file?: string; more?: number }, { output, signal }) => {
    let rssBytes = 0;
    const pour = async (from: number, to: number) => {
      for (let at = from; at < to; ) {
        const part = patternBytes(at, Math.min(input.block, to - at));
        await output.write(part);
        at += part.length;
        rssBytes = Math.max(rssBytes, process.memoryUsage.rss());
      }
    };
    await pour(0, input.bytes);
    while (input.file && !existsSync(input.file)) await pause(10, undefined, { signal });
    await pour(input.bytes, input.bytes + (input.more ?? 0));
    return { rssMb: Math.round(rssBytes / 2 ** 20) };
  },
});

/** Streams what attempt it is; fails until the last. */
export const stumbles = task({
  id: 'stumbles',
  run: async (input: { times: number; file?: string }, { output, attempt, signal }) => {
    await output.write(`attempt ${attempt} `);
    await output.write('goes on');
    while (input.file && !existsSync(`${input.file}-${attempt}`)) await pause(10, undefined, { signal });
    if (attempt <= input.times) throw new Error('it stumbled');
    return attempt;
  },
});

export const echo = task({ id: 'echo', run: (input: unknown) => input });

/** Runs until the file is there. */
export const gated = task({
  id: 'gated',
  run: async (input: { file: string; value?: unknown }, { signal }) => {
    while (!existsSync(input.file)) await pause(10, undefined, { signal });
    return input.value;
  },
});

export const big = task({ id: 'big', run: (input: { bytes: number }) => 'x'.repeat(input.bytes) });

/** Writes lines as fast as it can, giving the loop a turn now and then. */
export const babbles = task({
  id: 'babbles',
  run: async (input: { lines: number; bytes: number; turnEvery: number }, { log }) => {
    const filling = 'y'.repeat(input.bytes);
    let rssBytes = 0;
    for (let n = 1; n <= input.lines; n++) {
      log(`${n} ${filling}`);
      if (n % input.turnEvery === 0) {
        rssBytes = Math.max(rssBytes, process.memoryUsage.rss());
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    return { rssMb: Math.round(rssBytes / 2 ** 20) };
  },
});
