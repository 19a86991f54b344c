// The tasks of the benchmark of files.
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { task } from '@baton/client';

const MIB = 1024 * 1024;

export const putFile = task({
  id: 'put-file',
  async run({ seed, mib }: { seed: string; mib: number }, ctx) {
    const path = join(tmpdir(), `baton-bench-${ctx.taskId}`);
    const file = await open(path, 'w');
    const block = Buffer.alloc(MIB);
    let word = createHash('sha256').update(seed).digest();
    for (let i = 0; i < mib; i++) {
      for (let at = 0; at < MIB; at += 32) {
        word.copy(block, at);
        if (at % 4_096 === 0) word = createHash('sha256').update(word).digest();
      }
      await file.write(block);
    }
    await file.close();
    try {
      const began = performance.now();
      const put = await ctx.artifacts.put('data.bin', path);
      return { ms: performance.now() - began, file: put };
    } finally {
      await rm(path);
    }
  },
});

export const getFile = task({
  id: 'get-file',
  async run(_: unknown, ctx) {
    const began = performance.now();
    await ctx.artifacts.get('data');
    return { ms: performance.now() - began };
  },
});
