import { readFileSync } from 'node:fs';
import { createBaton } from '@baton/client';
import { EventService, TaskService } from '@baton/contract';
import { useStack } from '@baton/testkit/vitest';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { until } from '../faults/stage.ts';

const stack = useStack({ workers: 0 });

/** Resident memory of a process, MB. */
function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

/** Submits tasks that nobody can do; their ids in the order of submission. */
async function submitMany(count: number): Promise<string[]> {
  const tasks = createClient(TaskService, createGrpcTransport({ baseUrl: stack().url }));
  const ids: string[] = [];
  for (let at = 0; at < count; at += 1_000) {
    const specs = Array.from({ length: 1_000 }, (_, i) => ({ kind: 'nobody-can', labels: { n: String(at + i) } }));
    for (const { result } of (await tasks.submitTasks({ tasks: specs })).results) {
      ids.push(result.case === 'submitted' ? result.value.taskId : expect.fail(result.value?.message));
    }
  }
  return ids;
}

test('200 watchers that stand still, and 200 that are given up, cost a master little and bounded memory', {
  timeout: 180_000,
}, async (context) => {
  const { pid } = stack().master;
  const managers = Array.from({ length: 4 }, () => new Http2SessionManager(stack().url));
  context.onTestFinished(() => {
    for (const manager of managers) manager.abort();
  });
  const open = async (n: number) => {
    const transport = createGrpcTransport({ baseUrl: stack().url, sessionManager: managers[n % managers.length]! });
    const iterator = createClient(EventService, transport).watch({})[Symbol.asyncIterator]();
    const first = await iterator.next();
    return { iterator, cursor: first.value!.cursor };
  };
  // What everything costs that has nothing to do with watchers is there before.
  await submitMany(3_000);
  const before = residentMb(pid);
  const stalled = await Promise.all(Array.from({ length: 200 }, (_, n) => open(n)));
  const submitted = await submitMany(5_000);
  const early = residentMb(pid);
  submitted.push(...(await submitMany(10_000)));
  const late = residentMb(pid);
  // Mostly what was thrown away and not collected yet; it does not grow with what happens: kept for each watcher, the
  // 15 000 events would be a gigabyte.
  expect(late - before, `${before} → ${early} → ${late} MB`).toBeLessThan(700);
  expect(late - early, `${before} → ${early} → ${late} MB`).toBeLessThan(150);

  // They have lost nothing: one of them goes on and sees every task, in order, once.
  const seen = new Set<string>();
  const one = stalled[7]!.iterator;
  while (!seen.has(submitted.at(-1)!)) {
    const { value } = await one.next();
    for (const { event } of value!.events) {
      expect(seen.has(event!.taskId)).toBe(false);
      seen.add(event!.taskId);
    }
  }
  expect([...submitted].filter((id) => !seen.has(id))).toEqual([]);

  // Given up: their connections go, and what they held with them.
  for (const manager of managers) manager.abort();
  const baton = createBaton({ url: stack().url });
  await until(async () => (await baton.system.health()).healthy, 'the master to answer');
  for (let round = 0; round < 2; round++) {
    const aborted = new AbortController();
    const transport = createGrpcTransport({ baseUrl: stack().url });
    const client = createClient(EventService, transport);
    await Promise.all(
      Array.from({ length: 200 }, async () => {
        await client.watch({}, { signal: aborted.signal })[Symbol.asyncIterator]().next();
      }),
    );
    aborted.abort();
  }
  await submitMany(3_000);
  expect(residentMb(pid) - before).toBeLessThan(700);
});
