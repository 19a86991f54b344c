import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Baton, createBaton } from '@baton/client';
import { startFaultProxy, startStack } from '@baton/testkit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { hold, make, read } from './tasks.ts';

const tasksModule = new URL('./tasks.ts', import.meta.url);
const timeout = 120_000;
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'baton-artifacts-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

/** Two workers, each with a cache of its own, so that bytes have to move where a task goes elsewhere. */
const two = () =>
  ['w1', 'w2'].map((name) => ({ name, env: { BATON_WORKER_SLOTS: '2', BATON_CACHE_DIR: join(home, name) } }));

const cachedBytes = (worker: string): number => {
  const root = join(home, worker, 'artifacts', 'files');
  if (!existsSync(root)) return 0;
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.used'))
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
};

async function made(baton: Baton, seed: string, mib: number, worker: string) {
  const handle = await baton.enqueue(make, { seed, mib }, { tags: [`worker:${worker}`] });
  return handle.result();
}

const workerOf = async (baton: Baton, id: string) => (await baton.tasks.get(id)).worker;

test('consumers go where the files lie while that worker is free: nothing is moved', { timeout }, async () => {
  await using stack = await startStack({ tasksModule, workers: two() });
  const baton = createBaton({ url: stack.url });
  for (const [seed, worker] of [
    ['a', 'w1'],
    ['b', 'w2'],
    ['c', 'w1'],
  ] as const) {
    const { file, sha256 } = await made(baton, seed, 3, worker);
    for (let i = 0; i < 5; i++) {
      const handle = await baton.enqueue(read, {}, { artifacts: { data: file } });
      expect((await handle.result()).sha256).toBe(sha256);
      expect(await workerOf(baton, handle.id)).toBe(worker);
    }
  }
  // What each produced, and nothing else.
  expect([cachedBytes('w1'), cachedBytes('w2')]).toEqual([6 * 1024 * 1024, 3 * 1024 * 1024]);
});

test('when it is full or gone others take them after a moment, and say why they waited', { timeout }, async () => {
  await using stack = await startStack({ tasksModule, workers: two() });
  const baton = createBaton({ url: stack.url });
  const { file, sha256 } = await made(baton, 'full', 3, 'w1');
  const until = join(home, 'go');
  const holding = [];
  for (let i = 0; i < 2; i++) holding.push(await baton.enqueue(hold, { until }, { tags: ['worker:w1'] }));
  for (const { id } of holding)
    while ((await baton.tasks.get(id)).state !== 'leased') await new Promise((r) => setTimeout(r, 20));
  const began = Date.now();
  const handle = await baton.enqueue(read, {}, { artifacts: { data: file } });
  const { blockers } = await baton.tasks.explain(handle.id);
  expect(blockers.map((b) => [b.reason, b.worker])).toContainEqual(['PREFERS_WORKER', 'w1']);
  expect((await handle.result()).sha256).toBe(sha256);
  const waitedMs = Date.now() - began;
  expect(await workerOf(baton, handle.id)).toBe('w2');
  expect(waitedMs).toBeGreaterThan(1_000);
  expect(waitedMs).toBeLessThan(10_000);
  writeFileSync(until, '');
  await Promise.all(holding.map((each) => each.result()));

  // Only w1 has it.
  const other = await made(baton, 'gone', 3, 'w1');
  await stack.worker('w1').kill('SIGKILL');
  const orphan = await baton.enqueue(read, {}, { artifacts: { data: other.file } });
  expect((await orphan.result()).sha256).toBe(other.sha256);
  expect(await workerOf(baton, orphan.id)).toBe('w2');
});

test('a producer that is killed in the middle of an upload: nothing of it is seen, another produces it', {
  timeout,
}, async () => {
  await using stack = await startStack({ tasksModule, workers: 0 });
  await using proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
  proxy.slow(30);
  const first = await stack.addWorker({ name: 'w1', env: { BATON_URL: proxy.url, BATON_CACHE_DIR: join(home, 'w1') } });
  const baton = createBaton({ url: stack.url });
  const handle = await baton.enqueue(make, { seed: 'killed', mib: 40 });
  const uploads = () => existsSync(join(home, 'w1', 'artifacts', 'files')) && cachedBytes('w1') > 0;
  while (!uploads()) await new Promise((r) => setTimeout(r, 5));
  await first.kill('SIGKILL');
  expect(await baton.artifacts.list({ taskId: handle.id }).all()).toEqual([]);
  await stack.addWorker({ name: 'w2', env: { BATON_CACHE_DIR: join(home, 'w2') } });
  const { sha256 } = await handle.result();
  const files = await baton.artifacts.list({ taskId: handle.id }).all();
  expect(files.map((f) => [f.worker, f.sha256])).toEqual([['w2', sha256]]);
});

test('a consumer that is killed in the middle of a fetch goes on, in its next life, from what had come', {
  timeout,
}, async () => {
  await using stack = await startStack({
    tasksModule,
    workers: [{ name: 'w1', env: { BATON_CACHE_DIR: join(home, 'w1') } }],
  });
  const baton = createBaton({ url: stack.url });
  const { file, sha256 } = await made(baton, 'fetch', 60, 'w1');
  await stack.worker('w1').kill('SIGKILL');
  const env = { BATON_CACHE_DIR: join(home, 'w2') };
  const second = await stack.addWorker({ name: 'w2', env });
  const handle = await baton.enqueue(read, {}, { artifacts: { data: file } });
  const tmp = join(home, 'w2', 'artifacts', 'tmp');
  const partBytes = () =>
    existsSync(tmp)
      ? readdirSync(tmp).reduce(
          (sum, name) => sum + (statSync(join(tmp, name), { throwIfNoEntry: false })?.size ?? 0),
          0,
        )
      : 0;
  while (partBytes() < 4 * 1024 * 1024) await new Promise((r) => setTimeout(r, 2));
  await second.kill('SIGKILL');
  const left = partBytes();
  await stack.addWorker({ name: 'w2', env });
  const got = await handle.result();
  expect(got.sha256).toBe(sha256);
  // Killed before it was whole, or the test has shown nothing.
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThan(60 * 1024 * 1024);
  expect(readdirSync(tmp)).toEqual([]);
});

test('200 MiB through a master do not make it grow', { timeout }, async () => {
  await using stack = await startStack({ tasksModule, workers: two() });
  const baton = createBaton({ url: stack.url });
  const rss = () =>
    Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${stack.master.pid}/status`, 'utf8'))![1]) / 1024;
  await made(baton, 'warm', 20, 'w1');
  const before = rss();
  let most = before;
  const watch = setInterval(() => (most = Math.max(most, rss())), 50);
  try {
    const { file, sha256 } = await made(baton, 'large', 100, 'w1');
    const handle = await baton.enqueue(read, {}, { artifacts: { data: file }, tags: ['worker:w2'] });
    expect((await handle.result()).sha256).toBe(sha256);
  } finally {
    clearInterval(watch);
  }
  expect(most - before).toBeLessThan(150);
});
