import { createIdMaker } from '@baton/domain';
import { openPools, type Sql } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import type { TaskRequest } from './submit.ts';

const TTL_MS = 400;
let masters: Engine[];
/** Masters whose keys stand for a moment only. */
let hasty: Engine[];
let sql: Sql;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const database = await testDatabase({ migrated: true });
  let node = 20;
  const master = (idempotencyTtlMs: number) => {
    const pools = openPools(database.url);
    const settings = { ...DEFAULT_SETTINGS, idempotencyTtlMs };
    const ids = createIdMaker(node++, Date.now);
    const engine = createEngine({ pools, ids, settings, now: Date.now, random: Math.random, log: silentLog });
    cleanUp.unshift(() => pools.end());
    cleanUp.unshift(() => engine.stop());
    return engine;
  };
  masters = [1, 2, 3].map(() => master(DEFAULT_SETTINGS.idempotencyTtlMs));
  hasty = [1, 2, 3].map(() => master(TTL_MS));
  sql = masters[0]!.env.pools.api;
  cleanUp.push(() => database.drop());
});
afterAll(async () => {
  for (const each of cleanUp) await each();
});

const request: TaskRequest = { kind: 'paint', input: Uint8Array.of(1), encoding: 2 };
const submit = (more: Partial<TaskRequest>, { namespace = 'default', at = masters[0]! } = {}) =>
  at.submitter.submit(namespace, { ...request, ...more });
/** At once, over all masters in turn. */
const crowd = (more: Partial<TaskRequest>, count = 50, of = masters) =>
  Promise.all(Array.from({ length: count }, (_, i) => submit(more, { at: of[i % of.length]! })));
const stored = async (key: string) =>
  (await sql.unsafe('select id::text as id from baton.tasks where idempotency_key = $1', [key])).map(
    (r) => r.id as string,
  );

describe('one key', () => {
  it('at once, fifty times over three masters, is one task', async () => {
    for (let round = 0; round < 5; round++) {
      const key = `crowd ${round}`;
      const answers = await crowd({ idempotencyKey: key });
      expect(new Set(answers.map((a) => a.taskId)).size).toBe(1);
      expect(answers.filter((a) => !a.deduplicated)).toHaveLength(1);
      expect(await stored(key)).toEqual([answers[0]!.taskId]);
      const [events] = await sql.unsafe(
        'select count(*)::integer as n from baton.events where $1::bigint = any(task_ids)',
        [answers[0]!.taskId],
      );
      expect(events!.n).toBe(1);
    }
  });

  it('of another kind or namespace is another key', async () => {
    const ids = [
      await submit({ idempotencyKey: 'shared' }),
      await submit({ idempotencyKey: 'shared', kind: 'sand' }),
      await submit({ idempotencyKey: 'shared' }, { namespace: 'elsewhere' }),
    ];
    expect(new Set(ids.map((a) => a.taskId)).size).toBe(3);
    expect((await submit({ idempotencyKey: 'shared' }, { at: masters[2]! })).taskId).toBe(ids[0]!.taskId);
  });

  it.each<[string, Partial<TaskRequest>]>([
    ['input', { input: Uint8Array.of(2) }],
    ['encoding', { encoding: 1 }],
    ['queue', { queue: 'other' }],
    ['priority', { priority: 1 }],
    ['labels', { labels: { a: 'b' } }],
    ['retry', { retry: { maxAttempts: 2 } }],
    ['start-to-close time', { startToCloseMs: 5 }],
    ['schedule-to-start time', { scheduleToStartMs: 5 }],
    ['progress time', { progressTimeoutMs: 5 }],
    ['time', { runAtMs: Date.now() + 60_000 }],
    ['executor', { executor: { type: 'grpc', address: 'a:1', method: 'b/c' } }],
    ['tags', { tags: ['ssd'] }],
  ])('with another body is refused: %s', async (what, more) => {
    const idempotencyKey = `body ${what}`;
    const { taskId } = await submit({ idempotencyKey });
    await expect(submit({ idempotencyKey, ...more }, { at: masters[1]! })).rejects.toMatchObject({
      code: 'failed_precondition',
      reason: 'IDEMPOTENCY_CONFLICT',
      metadata: { existing_id: taskId },
    });
    expect(await submit({ idempotencyKey })).toEqual({ taskId, deduplicated: true });
    expect(await stored(idempotencyKey)).toEqual([taskId]);
  });

  it('with another blob is refused, with the same one it is not', async () => {
    const put = async (text: string) => {
      const data = new TextEncoder().encode(text);
      const sha256 = Buffer.from(await crypto.subtle.digest('SHA-256', data)).toString('hex');
      const { blobs } = masters[0]!;
      const { uploadId } = (await blobs.begin('default', { sizeBytes: data.length, sha256 })) as { uploadId: string };
      await blobs.append('default', uploadId, 0, data);
      return (await blobs.commit('default', uploadId, sha256)).sha256;
    };
    const blobs = [await put('one'), await put('two')];
    const spec = { idempotencyKey: 'blob', input: null };
    const { taskId } = await submit({ ...spec, inputBlob: blobs[0]! });
    expect(await submit({ ...spec, inputBlob: blobs[0]! })).toEqual({ taskId, deduplicated: true });
    await expect(submit({ ...spec, inputBlob: blobs[1]! })).rejects.toMatchObject({ reason: 'IDEMPOTENCY_CONFLICT' });
  });

  it('with the same maps in another order is the same body', async () => {
    const executor = (metadata: Record<string, string>) =>
      ({ type: 'grpc', address: 'a:1', method: 'b/c', metadata }) as const;
    const one = { idempotencyKey: 'maps', labels: { a: '1', b: '2' }, executor: executor({ x: '1', y: '2' }) };
    const other = { idempotencyKey: 'maps', labels: { b: '2', a: '1' }, executor: executor({ y: '2', x: '1' }) };
    expect((await submit(one)).taskId).toBe((await submit(other)).taskId);
  });
});

describe('a key whose time is over', () => {
  const isOver = (key: string) =>
    expect
      .poll(
        async () =>
          (
            await sql.unsafe('select expires_at < clock_timestamp() as over from baton.idempotency where key = $1', [
              key,
            ])
          )[0]!.over,
      )
      .toBe(true);

  it('is free, though nobody has tidied up: of fifty at once one stores, with another body too', async () => {
    const idempotencyKey = 'brief';
    const [first] = await crowd({ idempotencyKey }, 3, hasty);
    await isOver(idempotencyKey);
    const answers = await crowd({ idempotencyKey, input: Uint8Array.of(9) });
    const ids = new Set(answers.map((a) => a.taskId));
    expect(ids.size).toBe(1);
    expect(ids).not.toContain(first!.taskId);
    expect(answers.filter((a) => !a.deduplicated)).toHaveLength(1);
    expect((await stored(idempotencyKey)).sort()).toEqual([first!.taskId, answers[0]!.taskId].sort());
  });

  it('is free for runs as well', async () => {
    const definition = JSON.stringify({ name: 'flow', nodes: { a: { task: 'a' } } });
    await masters[0]!.workflows.apply('default', definition);
    const start = (at: Engine) =>
      at.runs.start('default', {
        workflow: { name: 'flow', version: null },
        input: null,
        encoding: 1,
        idempotencyKey: 'brief run',
        labels: null,
      });
    const first = await start(hasty[0]!);
    await isOver('brief run');
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => start(masters[i % 3]!)));
    const ids = new Set(answers.map((a) => a.runId));
    expect(ids.size).toBe(1);
    expect(ids).not.toContain(first.runId);
    expect(answers.filter((a) => !a.deduplicated)).toHaveLength(1);
    expect(await sql.unsafe(`select from baton.runs where idempotency_key = 'brief run'`)).toHaveLength(2);
  });
});

it('a result is kept byte for byte, whatever it is', async () => {
  const { sessionId } = await masters[0]!.sessions.register('bytes', {
    name: 'w',
    instanceId: 'w',
    serviceUrl: '',
    version: '0',
    metadata: {},
    capabilities: { taskClasses: [], tags: [], executors: ['function'], kinds: ['paint'], queues: [], slots: 9 },
  });
  const outputs = [
    Uint8Array.from({ length: 256 }, (_, i) => i),
    new TextEncoder().encode('{"b": 1.0,\n "a":12345678901234567890}'),
    new Uint8Array(0),
  ];
  for (const [i, output] of outputs.entries()) {
    const { taskId } = await submit({}, { namespace: 'bytes' });
    const offer = { number: BigInt(2 * i + 1), freeSlots: 1 };
    const { assignments } = await masters[0]!.sessions.exchange({ sessionId, results: [], offer, waitMs: 0 });
    const outcome = { type: 'success', output, encoding: i === 1 ? 1 : 2 } as const;
    const results = [{ taskId, epoch: assignments[0]!.epoch, outcome, ranUs: 1 }];
    await masters[0]!.sessions.exchange({ sessionId, results, offer: null, waitMs: 0 });
    const task = await masters[1]!.tasks.get('bytes', taskId, 0);
    expect([...task.output!]).toEqual([...output]);
    expect(task.outputEncoding).toBe(outcome.encoding);
  }
});
