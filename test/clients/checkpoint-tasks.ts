/** Tasks that keep checkpoints, and that take and give what is too large for a message. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { type BlobValue, task } from '@baton/client';

/** Saves each of these, then waits for the file, if one is named. */
export const saves = task({
  id: 'saves',
  async run(
    input: {
      values: { value: unknown; score?: number; metadata?: Record<string, string> }[];
      file?: string;
    },
    { checkpoint, signal },
  ) {
    const numbers = [];
    for (const { value, score, metadata } of input.values)
      numbers.push(await checkpoint.save(value, { score, metadata }));
    while (input.file !== undefined && !existsSync(input.file)) await pause(10, undefined, { signal });
    return { numbers, latest: checkpoint.latest };
  },
});

/** Fails after each save until the third attempt; gives what each attempt found. */
export const resumes = task({
  id: 'resumes',
  retry: { maxAttempts: 3, initialDelayMs: 1 },
  async run(_: undefined, { checkpoint, attempt }) {
    const found = await checkpoint.load<{ found: unknown[] }>();
    const before = [...(found?.found ?? []), checkpoint.latest];
    if (attempt < 3) {
      await checkpoint.save({ found: before });
      throw new Error('not yet');
    }
    return { before, first: await checkpoint.load(1), none: (await checkpoint.load(9)) ?? 'none' };
  },
});

/** What came in, as size and hash: bytes, or the JSON text of a value. */
export const measure = task({
  id: 'measure',
  run(input: unknown) {
    const bytes = input instanceof Uint8Array ? input : Buffer.from(JSON.stringify(input));
    return {
      type: input instanceof Uint8Array ? 'bytes' : 'json',
      size: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    };
  },
});

/** Bytes of a pattern, as a blob, or (too large) as they are. */
export const makeBytes = task({
  id: 'make-bytes',
  async run(input: { bytes: number; plain?: boolean }, ctx): Promise<BlobValue | Uint8Array> {
    const bytes = new Uint8Array(input.bytes);
    for (let i = 0; i < bytes.length; i += 4096) bytes[i] = i / 4096;
    return input.plain ? bytes : ctx.blob(bytes);
  },
});

/** A long list, streamed as JSON. */
export const makeList = task({
  id: 'make-list',
  run(input: { items: number }, ctx): Promise<BlobValue<number[]>> {
    const encoder = new TextEncoder();
    async function* text() {
      yield encoder.encode('[0');
      for (let i = 1; i < input.items; i++) yield encoder.encode(`,${i}`);
      yield encoder.encode(']');
    }
    return ctx.blob<number[]>(text(), { encoding: 'json' });
  },
});

/** Names a blob that nobody has uploaded. */
export const lies = task({
  id: 'lies',
  run: (): BlobValue => ({ __baton: 'blob', sha256: 'ab'.repeat(32), sizeBytes: 5, encoding: 'bytes' }),
});
