import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { startStack } from './stack.ts';

test('a stack serves, survives the kill of its processes on the same ports, and leaves nothing behind', async () => {
  const pids: number[] = [];
  {
    await using stack = await startStack({ workers: 1, from: 'source' });
    const { url } = stack;
    const baton = createBaton({ url });
    const module = join(stack.home, 'tasks.mjs');
    await writeFile(module, `export const t = { __baton: 'task', id: 'greet', run: (name) => 'Hello, ' + name };`);
    const added = await stack.addWorker({ name: 'greeter', tasksModule: module, env: { BATON_WORKER_SLOTS: '1' } });
    expect(stack.worker('greeter')).toBe(added);
    const greet = async (name: string) => {
      const { id } = await baton.tasks.submit({ kind: 'greet', input: name });
      return baton.tasks.handle(id).result();
    };
    expect(await greet('you')).toBe('Hello, you');

    expect(await stack.master.kill()).toEqual({ code: null, signal: 'SIGKILL' });
    expect(stack.master.running).toBe(false);
    await stack.master.restart();
    expect(stack.url).toBe(url);
    const workerUrl = added.url;
    await added.restart();
    expect(added.url).toBe(workerUrl);
    expect(await greet('again')).toBe('Hello, again');
    expect(stack.logs()).toContain('master serves');
    pids.push(stack.master.pid, ...stack.workers.map(({ pid }) => pid));
  }
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
});

test('a process that cannot start says why', async () => {
  await expect(startStack({ workers: 0, masterEnv: { BATON_LEASE_TTL_MS: 'long' } })).rejects.toThrow(
    /master ended \(64\)[\s\S]*BATON_LEASE_TTL_MS=long/,
  );
});
