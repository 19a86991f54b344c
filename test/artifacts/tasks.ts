/** Tasks that hand files on. Large files are made of a seed, so that whoever reads one can say whether it is what it should be. */
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type ArtifactValue, task, workflow } from '@baton/client';

const MIB = 1024 * 1024;

export interface Made {
  readonly sha256: string;
  readonly pid: number;
  readonly file: ArtifactValue;
}

/** Bytes that no compression makes less. */
export function block(seed: string, number: number): Buffer {
  const bytes = Buffer.allocUnsafe(MIB);
  let hash = createHash('sha256').update(`${seed} ${number}`).digest();
  for (let at = 0; at < MIB; at += 32) {
    hash.copy(bytes, at);
    if (at % 4096 === 0) hash = createHash('sha256').update(hash).digest();
  }
  return bytes;
}

export const make = task({
  id: 'make',
  retry: { maxAttempts: 3, initialDelayMs: 10 },
  async run({ seed, mib, name = 'data.bin' }: { seed: string; mib: number; name?: string }, ctx): Promise<Made> {
    const path = join(tmpdir(), `baton-made-${ctx.taskId}-${ctx.epoch}`);
    const file = await open(path, 'w');
    const hash = createHash('sha256');
    for (let i = 0; i < mib; i++) {
      const bytes = block(seed, i);
      hash.update(bytes);
      await file.write(bytes);
    }
    await file.close();
    const put = await ctx.artifacts.put(name, path);
    return { sha256: hash.digest('hex'), pid: process.pid, file: put };
  },
});

export interface Read {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly pid: number;
  readonly path: string;
  readonly names: readonly string[];
}

export const read = task({
  id: 'read',
  retry: { maxAttempts: 3, initialDelayMs: 10 },
  async run({ name = 'data', holdMs = 0 }: { name?: string; holdMs?: number; any?: unknown }, ctx): Promise<Read> {
    const path = await ctx.artifacts.get(name);
    const bytes = await readFile(path);
    if (holdMs > 0) await pause(holdMs, undefined, { signal: ctx.signal });
    return {
      sha256: createHash('sha256').update(bytes).digest('hex'),
      sizeBytes: statSync(path).size,
      pid: process.pid,
      path,
      names: ctx.artifacts.inputs.map((input) => input.name),
    };
  },
});

/** Puts texts under names, in order. */
export const texts = task({
  id: 'texts',
  retry: { maxAttempts: 1 },
  async run({ files }: { files: readonly (readonly [name: string, text: string])[] }, ctx) {
    for (const [name, text] of files) await ctx.artifacts.put(name, new TextEncoder().encode(text));
    return files.length;
  },
});

/** All that it is handed, by name. */
export const all = task({
  id: 'all',
  retry: { maxAttempts: 1 },
  async run(_: unknown, ctx) {
    const directory = await ctx.artifacts.directory();
    const names = await readdir(directory, { recursive: true, withFileTypes: true });
    const found: Record<string, string> = {};
    for (const entry of names)
      if (entry.isFile()) {
        const path = join(entry.parentPath, entry.name);
        found[path.slice(directory.length + 1)] = await readFile(path, 'utf8');
      }
    return found;
  },
});

/** Fails in its first attempt, after a file was put. */
export const flaky = task({
  id: 'flaky',
  retry: { maxAttempts: 2, initialDelayMs: 10 },
  async run(_: unknown, ctx) {
    if (ctx.attempt === 1) {
      await ctx.artifacts.put('only-first', Buffer.from('of the first attempt'));
      await ctx.artifacts.put('both', Buffer.from('first'));
      throw new Error('the first attempt fails');
    }
    await ctx.artifacts.put('both', Buffer.from('second'));
  },
});

/** Waits until a file is there: holds its slot. */
export const hold = task({
  id: 'hold',
  async run({ until }: { until: string }, ctx) {
    while (!existsSync(until)) await pause(20, undefined, { signal: ctx.signal });
  },
});

export const misuse = task({
  id: 'misuse',
  retry: { maxAttempts: 1 },
  async run({ what }: { what: string }, ctx) {
    if (what === 'directory') await ctx.artifacts.put('d', tmpdir());
    if (what === 'name') await ctx.artifacts.put('../d', Buffer.from('x'));
    if (what === 'missing') await ctx.artifacts.get('nothing');
    if (what === 'no file') await ctx.artifacts.put('f', '/nonexistent');
    // Not awaited.
    if (what === 'forgotten') void ctx.artifacts.put('f', '/nonexistent').catch(() => {});
    if (what === 'in flight') void ctx.artifacts.put('f', Buffer.from('it is waited for'));
  },
});

export const scribble = task({
  id: 'scribble',
  async run({ path, text }: { path: string; text: string }) {
    await writeFile(path, text);
  },
});

/** A durable function that hands a file on. */
export const passOn = workflow({
  id: 'pass-on',
  async run(ctx, { seed }: { seed: string }) {
    const made = await ctx.run(make, { seed, mib: 2 });
    const got = await ctx.run(read, {}, { artifacts: { data: made.file } });
    return { made: made.sha256, got: got.sha256 };
  },
});
