import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createBaton, type ExplanationView } from '@baton/client';
import { useStack } from '@baton/testkit/vitest';
import postgres from 'postgres';
import { afterAll, beforeAll, expect, test } from 'vitest';

const stack = useStack({
  workers: [{ name: 'small' }],
  tasksModule: new URL('why-tasks.ts', import.meta.url),
  workerEnv: { BATON_WORKER_SLOTS: '2', BATON_WORKER_TAGS: 'linux' },
});
const client = () => createBaton({ url: stack().url });
let sql: postgres.Sql;
beforeAll(() => {
  sql = postgres(stack().databaseUrl, { max: 1, fetch_types: false, onnotice: () => {} });
});
afterAll(() => sql.end({ timeout: 5 }));

const BIN = fileURLToPath(new URL('../../node_modules/.bin/baton', import.meta.url));

/** The command, as a process of its own. */
function baton(...args: string[]): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [BIN, ...args, '--url', stack().url], { cwd: stack().home }, (error, stdout) =>
      resolve({ code: error ? Number(error.code) : 0, stdout }),
    );
  });
}

const why = async (id: string) => JSON.parse((await baton('task', 'why', id, '-o', 'json')).stdout) as ExplanationView;

test('a task that no worker can take names what is missing, and runs when a worker has it', async () => {
  const { id } = await client().submit({ kind: 'wait', input: { ms: 0 }, tags: ['gpu-a'] });
  expect(await why(id)).toMatchObject({
    state: 'ready',
    summary: 'No living worker can take it; the nearest is small, which lacks the tag gpu-a.',
    blockers: [{ reason: 'MISSING_CAPABILITY', worker: 'small', missing: ['tag:gpu-a'] }],
    fittingWorkers: 0,
  });
  expect((await baton('task', 'why', id)).stdout).toContain('missing: tag:gpu-a');
  const worker = await stack().addWorker({ name: 'tagged', env: { BATON_WORKER_TAGS: 'gpu-a' } });
  await client().tasks.handle(id).result();
  expect(await why(id)).toMatchObject({ state: 'succeeded', blockers: [{ reason: 'ENDED' }] });
  await worker.kill('SIGTERM');
});

test('a task behind a full worker says who is full and of what; the one that runs says where', async () => {
  const tasks = await Promise.all([1, 2, 3, 4].map(() => client().submit({ kind: 'wait', input: { ms: 60_000 } })));
  const states = async () => (await Promise.all(tasks.map((t) => t.status()))).map((t) => t.state);
  await expect
    .poll(async () => (await states()).filter((state) => state === 'leased').length, { timeout: 10_000 })
    .toBeGreaterThanOrEqual(2);
  // Long work is not prefetched for long: what is not started comes back, or is held behind the two that run.
  await expect
    .poll(
      async () => {
        const explained = await Promise.all(tasks.map((t) => why(t.id)));
        return explained.filter((e) => e.blockers[0]!.reason === 'RUNNING' && /runs on small since/.test(e.summary))
          .length;
      },
      { timeout: 15_000 },
    )
    .toBe(2);
  const waiting = await client().submit({ kind: 'wait', input: { ms: 0 } });
  const explained = await why(waiting.id);
  if (explained.state === 'ready') {
    expect(explained.blockers[0]).toMatchObject({ reason: 'NO_CAPACITY', worker: 'small' });
    expect(explained.blockers[0]!.message).toMatch(/\d × wait/);
  } else expect(explained.blockers[0]).toMatchObject({ reason: 'RUNNING', worker: 'small' });
  await Promise.all([...tasks, waiting].map((t) => t.cancel('over').catch(() => {})));
  await expect
    .poll(async () => (await states()).every((state) => state === 'cancelled'), { timeout: 10_000 })
    .toBe(true);
});

test('after a pause that was acknowledged nothing is granted, until the queue goes on', async () => {
  const tasks = await Promise.all(
    // Half a minute of work: the command is there before its end on a loaded machine, too.
    Array.from({ length: 300 }, () => client().submit({ kind: 'wait', queue: 'night', input: { ms: 200 } })),
  );
  const granted = async () => {
    const [row] = await sql`select clock_timestamp()::text as now,
      (select count(*)::integer from baton.leases) + (select count(*)::integer from baton.attempts a join baton.v_tasks t on t.id = a.task_id where t.queue = 'night') as n`;
    return row as { now: string; n: number };
  };
  await expect.poll(async () => (await granted()).n).toBeGreaterThan(2);
  expect((await baton('queue', 'pause', 'night')).stdout).toContain('is paused');
  const { now } = await granted();
  await expect
    .poll(async () => (await sql`select count(*)::integer as n from baton.leases`)[0]!.n, { timeout: 25_000 })
    .toBe(0);
  const late = () =>
    sql`select count(*)::integer as n from baton.attempts where granted_at > ${now}::text::timestamptz`;
  expect((await late())[0]!.n).toBe(0);
  const left = (await Promise.all(tasks.map((t) => t.status()))).filter((t) => t.state === 'ready');
  expect(left.length).toBeGreaterThan(0);
  expect(await why(left[0]!.id)).toMatchObject({
    summary: 'Queue night is paused.',
    blockers: [{ reason: 'QUEUE_PAUSED' }],
  });
  const listed = JSON.parse((await baton('queue', 'list', '-o', 'json')).stdout) as { name: string }[];
  expect(listed.find((q) => q.name === 'night')).toMatchObject({ paused: true, ready: left.length, leased: 0 });
  expect((await late())[0]!.n).toBe(0);
  // Some are enough.
  await Promise.all(left.slice(4).map(({ id }) => client().tasks.handle(id).cancel('enough')));
  expect((await baton('queue', 'resume', 'night')).code).toBe(0);
  await Promise.all(left.slice(0, 4).map(({ id }) => client().tasks.handle(id).result()));
});

test('when the only worker is killed, that nobody is there is what is said', async () => {
  const worker = stack().worker('small');
  await worker.kill();
  const { id } = await client().submit({ kind: 'wait', input: { ms: 0 } });
  await expect
    .poll(async () => (await why(id)).blockers.map((b) => b.reason), { timeout: 15_000 })
    .toEqual(['NO_WORKER']);
  worker.relaunch();
  await client().tasks.handle(id).result();
});
