import { createBaton } from '@baton/client';
import { workflowSchema } from '@baton/client/workflow-file';
import { startStack, startTestPostgres } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { describe, expect, test } from 'vitest';
import { curl, detail, post } from './curl.ts';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });
const call = (method: string, request: unknown = {}) => post(stack().url, `SystemService/${method}`, request);

test('/healthz and /readyz', async () => {
  expect(await curl([`${stack().url}/healthz`])).toMatchObject({ status: 200, body: { status: 'ok' } });
  const ready = await curl([`${stack().url}/readyz`]);
  expect(ready).toMatchObject({ status: 200, body: { status: 'ready' } });
});

test('the parts of health are true to life', async () => {
  const { body } = await call('GetHealth');
  expect(body.healthy).toBe(true);
  const parts = Object.fromEntries(body.parts.map((part: { name: string }) => [part.name, part]));
  const info = (await call('GetInfo')).body;
  expect(parts.postgres).toMatchObject({ healthy: true, message: `PostgreSQL ${info.postgresVersion}` });
  expect(info.postgresVersion).toMatch(/^\d+(\.\d+)+/);
  expect(parts.postgres.latency).toMatch(/^\d+(\.\d+)?s$/);
  expect(parts.schema.message).toBe(`version ${info.schemaVersion}`);
  expect(parts.sweeps).toMatchObject({ healthy: true });
  expect(parts.workers.message).toBe('1 connected');
  await using more = await startStack({
    databaseUrl: stack().databaseUrl,
    workers: [{ name: 'second' }],
  });
  const { body: now } = await call('GetHealth');
  expect(now.parts.find(({ name }: { name: string }) => name === 'workers').message).toBe('2 connected');
  expect(more.workers).toHaveLength(1);
});

test('health says when Postgres is gone', async () => {
  const postgres = await startTestPostgres();
  try {
    await using own = await startStack({ workers: 0, databaseUrl: postgres.url });
    expect((await curl([`${own.url}/readyz`])).status).toBe(200);
    await postgres.stop();
    const ready = await curl([`${own.url}/readyz`]);
    expect(ready).toMatchObject({ status: 503, body: { status: 'not ready' } });
    expect(ready.body.parts).toMatchObject([{ name: 'postgres', healthy: false }]);
    const { body } = await post(own.url, 'SystemService/GetHealth', {});
    expect(body.healthy ?? false).toBe(false);
    // The process lives: restarting it would help nobody.
    expect((await curl([`${own.url}/healthz`])).status).toBe(200);
    expect(await post(own.url, 'TaskService/SubmitTask', { task: { kind: 'echo' } })).toMatchObject({
      status: 503,
      body: { code: 'unavailable' },
    });
  } finally {
    await postgres.stop();
  }
});

describe('metrics', () => {
  const names = (body: { metrics: { name: string }[] }) => body.metrics.map(({ name }) => name);
  const value = async (name: string): Promise<number> =>
    (await call('GetMetrics', { names: [name] })).body.metrics[0].value ?? 0;

  test('by exact name, by prefix, all of them', async () => {
    expect(names((await call('GetMetrics', { names: ['baton_workers'] })).body)).toEqual(['baton_workers']);
    const tasks = names((await call('GetMetrics', { names: ['baton_tasks_*'] })).body);
    expect(tasks.length).toBeGreaterThan(3);
    expect(tasks.every((name) => name.startsWith('baton_tasks_'))).toBe(true);
    const all = names((await call('GetMetrics')).body);
    expect(all).toEqual(expect.arrayContaining([...tasks, 'baton_workers', 'baton_master_cpu_seconds_total']));
  });

  test('an unknown name is an error that says which there are', async () => {
    for (const names of [['baton_workers', 'nope'], ['nope_*']]) {
      const answer = await call('GetMetrics', { names });
      expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_argument' } });
      expect(detail(answer, 'ErrorInfo').reason).toBe('UNKNOWN_METRIC');
      expect(answer.body.message).toContain('baton_tasks_ready');
    }
  });

  test('counters count, and /metrics says the same in the text form of Prometheus', async () => {
    const before = await value('baton_tasks_succeeded_total');
    const baton = createBaton({ url: stack().url });
    await Promise.all(Array.from({ length: 5 }, async () => (await baton.submit({ kind: 'echo', input: 1 })).result()));
    expect(await value('baton_tasks_succeeded_total')).toBe(before + 5);
    const text = await curl([`${stack().url}/metrics`]);
    expect(text.type).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(text.body).toMatch(/^# TYPE baton_tasks_succeeded_total counter$/m);
    expect(text.body).toMatch(new RegExp(`^baton_tasks_succeeded_total ${before + 5}$`, 'm'));
  });
});

test('a master serves the schema of workflow files to editors', async () => {
  const answer = await fetch(`${stack().url}/schemas/workflow.json`);
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toContain('application/schema+json');
  expect(answer.headers.get('access-control-allow-origin')).toBe('*');
  expect(await answer.json()).toEqual(workflowSchema);
});
