import type { JsonValue } from '@baton/domain';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunStage, runStage, type StageTask } from './runs.fixture.ts';

let stage: RunStage;
let pair: RunStage;
beforeAll(async () => {
  [stage, pair] = await Promise.all([runStage(), runStage(2)]);
});
afterAll(async () => {
  await Promise.all([stage.drop(), pair.drop()]);
});

const nobody = () => {
  throw new Error('not this one');
};
const fanOut = (count: number, more: object = {}, others: object = {}) => ({
  name: 'fan',
  nodes: {
    map: {
      for_each: { items: Array.from({ length: count }, (_, i) => i), ...more },
      task: 'square',
      input: { n: { $expr: 'item' }, i: { $expr: 'index' } },
      ...others,
    },
    reduce: { needs: ['map'], task: 'sum', input: { all: { $from: 'map' } } },
  },
});
const work = ({ kind, value }: StageTask): JsonValue => {
  const of = value as { n: number; all: number[] };
  if (kind === 'square') return of.n * of.n;
  return of.all.reduce((a, b) => a + b, 0);
};

describe('a fan-out', () => {
  it('runs once for each item, in as many steps as it takes, and gives the list in the order of the items', async () => {
    const run = await stage.start(fanOut(1_700));
    let all: JsonValue = null;
    const done = await stage.carryOut(run, (task) => {
      if (task.kind === 'sum') all = (task.value as { all: JsonValue }).all;
      return work(task);
    });
    expect(done).toBe(1_701);
    expect(all).toEqual(Array.from({ length: 1_700 }, (_, i) => i * i));
    expect(await stage.output(run)).toEqual({ reduce: (1_699 * 1_700 * (2 * 1_699 + 1)) / 6 });
    const { map } = await stage.nodes(run);
    expect(map).toMatchObject({
      state: 'succeeded',
      items_total: 1_700,
      items_started: 1_700,
      items_ended: 1_700,
      items_failed: 0,
    });
    expect(map!.output_hash).toMatch(/^[0-9a-f]{64}$/);
    expect(Math.max(...(await stage.tasksPer(run)))).toBe(1);
    expect(await stage.run(run)).toMatchObject({ state: 'succeeded', items_total: 1_700, nodes_ended: 2 });
  });

  it('has never more at once than it may', async () => {
    const run = await stage.start(fanOut(40, { max_parallel: 7 }));
    let most = 0;
    await stage.settle();
    for (let left = 40; left > 0; ) {
      const tasks = await stage.take();
      most = Math.max(most, tasks.length);
      expect(tasks.length).toBeGreaterThan(0);
      left -= tasks.length;
      await stage.succeed(tasks.map((task) => ({ task, output: work(task) })));
      await stage.settle();
    }
    expect(most).toBe(7);
    await stage.carryOut(run, work);
    expect((await stage.run(run)).state).toBe('succeeded');
  });

  it('of nothing is an empty list', async () => {
    const run = await stage.start(fanOut(0));
    await stage.carryOut(run, work);
    expect(await stage.output(run)).toEqual({ reduce: 0 });
  });

  it('stops when an item fails: what runs finishes, nothing new starts; a retry runs what is missing alone', async () => {
    const run = await stage.start(fanOut(30, { max_parallel: 10 }));
    await stage.settle();
    const first = await stage.take();
    expect(first).toHaveLength(10);
    await stage.fail(first.slice(3, 4));
    await stage.settle();
    expect(await stage.take()).toEqual([]);
    expect((await stage.run(run)).state).toBe('running');
    await stage.succeed([...first.slice(0, 3), ...first.slice(4)].map((task) => ({ task, output: work(task) })));
    await stage.settle();
    expect(await stage.run(run)).toMatchObject({ state: 'failed', failed_node_id: 'map' });
    const nodes = await stage.nodes(run);
    expect(nodes.map).toMatchObject({ state: 'failed', items_started: 10, items_failed: 1 });
    expect(nodes.reduce).toMatchObject({ state: 'skipped' });
    expect((nodes.map!.failure as { message: string }).message).toBe(
      '1 of 30 items failed, 20 were not started; item 3: it was to fail',
    );
    await stage.masters[0]!.runs.retry(1, run);
    const seen: number[] = [];
    await stage.carryOut(run, (task) => {
      if (task.kind === 'square') seen.push(task.item!);
      return work(task);
    });
    expect(seen.sort((a, b) => a - b)).toEqual([3, ...Array.from({ length: 20 }, (_, i) => 10 + i)]);
    expect(await stage.run(run)).toMatchObject({ state: 'succeeded', execution: 2 });
    expect(await stage.output(run)).toEqual({ reduce: (29 * 30 * 59) / 6 });
  });

  it('that continues runs all items, and gives null for those that failed', async () => {
    const definition = fanOut(12, {}, { on_failure: 'continue' });
    const run = await stage.start(definition);
    let all: JsonValue = null;
    await stage.carryOut(run, (task) => {
      if (task.kind === 'sum') all = (task.value as { all: JsonValue }).all;
      else if (task.item === 5) return nobody();
      return task.kind === 'sum' ? 0 : work(task);
    });
    expect((all as unknown as JsonValue[])[5]).toBeNull();
    expect((all as unknown as JsonValue[])[6]).toBe(36);
    expect((await stage.run(run)).state).toBe('succeeded');
    expect((await stage.nodes(run)).map!.state).toBe('failed');
  });

  it('is cancelled in the middle: nothing of it is left, nothing starts', async () => {
    const run = await stage.start(fanOut(900));
    await stage.settle();
    const some = await stage.take(20);
    await stage.masters[0]!.runs.cancel(1, run, 'enough');
    await stage.settle();
    await stage.fail(some, 'cancelled');
    await stage.settle();
    expect(await stage.run(run)).toMatchObject({ state: 'cancelled', cancel_reason: 'enough' });
    const [left] = await stage.sql.unsafe(
      `select (select count(*) from baton.ready where run_id = $1)::integer + (select count(*) from baton.leases where run_id = $1)::integer as n`,
      [run],
    );
    expect(left!.n).toBe(0);
    const [items] = await stage.sql.unsafe(
      `select count(*) filter (where state <> 'cancelled')::integer as n from baton.run_items where run_id = $1`,
      [run],
    );
    expect(items!.n).toBe(0);
  });

  it('of more items than may be fails its node with the number', async () => {
    const run = await stage.start(
      {
        name: 'many',
        nodes: { m: { matrix: { a: { $input: ['a'] }, b: { $input: ['a'] } }, task: 'x', input: {} } },
      },
      { a: Array.from({ length: 400 }, (_, i) => i) },
    );
    await stage.carryOut(run, nobody);
    expect((await stage.run(run)).failure_message).toContain('160000 items, 100000 is the most');
  });
});

describe('a graph', () => {
  it('starts by conditions and joins, goes on after failures that it may, and has an output of its own', async () => {
    const run = await stage.start(
      {
        name: 'joins',
        output: { total: { $from: 'last', path: ['n'] }, state: { $expr: 'nodes.bad.state' } },
        nodes: {
          a: { task: 'ok' },
          bad: { task: 'no', on_failure: 'continue' },
          off: { task: 'ok', when: 'input.on' },
          behind: { needs: ['off'], task: 'ok' },
          any: { needs: ['off', 'a'], join: 'any', task: 'ok' },
          always: { needs: ['behind', 'bad'], join: 'always', task: 'ok' },
          last: {
            needs: ['any', 'always', 'bad'],
            task: 'ok',
            when: 'nodes.bad.state == "failed" && nodes.bad.output == null',
          },
        },
      },
      { on: false },
    );
    await stage.carryOut(run, ({ kind }) => (kind === 'no' ? nobody() : { n: 4 }));
    const nodes = await stage.nodes(run);
    expect(Object.fromEntries(Object.entries(nodes).map(([id, n]) => [id, n.state]))).toEqual({
      a: 'succeeded',
      bad: 'failed',
      off: 'skipped',
      behind: 'skipped',
      any: 'succeeded',
      always: 'succeeded',
      last: 'succeeded',
    });
    expect(nodes.off!.skip_reason).toBe('its condition was false');
    expect(nodes.behind!.skip_reason).toBe('a node that it needs was skipped');
    expect((await stage.run(run)).state).toBe('succeeded');
    expect(await stage.output(run)).toEqual({ total: 4, state: 'failed' });
  });

  it('runs another workflow as a node, also one for each item, and takes its end and its cancellation', async () => {
    await stage.masters[0]!.workflows.apply(
      'default',
      JSON.stringify({ name: 'inner', output: { $from: 'x' }, nodes: { x: { task: 'twice', input: { $input: [] } } } }),
    );
    const outer = (kind: string) => ({
      name: `outer-${kind}`,
      nodes: {
        sub: { workflow: 'inner', input: { n: 21 } },
        each: { for_each: [1, 2, 3], workflow: 'inner', input: { n: { $expr: 'item' } } },
        end: { needs: ['sub', 'each'], task: 'sum', input: { one: { $from: 'sub' }, all: { $from: 'each' } } },
      },
    });
    const run = await stage.start(outer('ok'));
    let seen: JsonValue = null;
    await stage.carryOut(run, ({ kind, value }) => {
      if (kind === 'sum') seen = value;
      return kind === 'sum' ? 1 : 2 * (value as { n: number }).n;
    });
    expect(seen).toEqual({ one: 42, all: [2, 4, 6] });
    const nodes = await stage.nodes(run);
    expect(nodes.sub!.child_run_id).toBeTruthy();
    expect(await stage.run(nodes.sub!.child_run_id as string)).toMatchObject({
      parent_run_id: run,
      state: 'succeeded',
    });

    const cancelled = await stage.start(outer('cancelled'));
    await stage.settle();
    await stage.masters[0]!.runs.cancel(1, cancelled, 'no');
    await stage.settle();
    expect((await stage.run(cancelled)).state).toBe('cancelled');
    const children = await stage.sql.unsafe('select state from baton.runs where parent_run_id = $1', [cancelled]);
    expect(children.map((r) => r.state)).toEqual(['cancelled', 'cancelled', 'cancelled', 'cancelled']);
  });

  it('uses results again as long as it may, by its key', async () => {
    const definition = (key: object) => ({
      name: 'cached',
      nodes: {
        a: { task: 'dear', input: { n: 1, noise: { $input: [] } }, cache: { ttl_seconds: 60, key } },
        b: { needs: ['a'], task: 'cheap', input: { $from: 'a' } },
      },
    });
    const perform = ({ kind, value }: StageTask) => (kind === 'dear' ? 'made' : value);
    expect(await stage.carryOut(await stage.start(definition({ v: 1 }), 1), perform)).toBe(2);
    const again = await stage.start(definition({ v: 1 }), 2);
    expect(await stage.carryOut(again, perform)).toBe(1);
    expect((await stage.nodes(again)).a).toMatchObject({ state: 'succeeded', cached: true, attempts: 0 });
    expect(await stage.output(again)).toEqual({ b: 'made' });
    expect(await stage.carryOut(await stage.start(definition({ v: 2 }), 3), perform)).toBe(2);
  });

  it('is retried from a chosen node: that and what follows run again, the rest keeps attempts and hashes', async () => {
    const run = await stage.start({
      name: 'again',
      nodes: {
        a: { task: 't' },
        b: { needs: ['a'], task: 't' },
        c: { needs: ['b'], task: 't' },
        d: { needs: ['a'], task: 't' },
      },
    });
    await stage.carryOut(run, () => 1);
    const before = await stage.nodes(run);
    const retried = await stage.masters[0]!.runs.retry(1, run, ['b']);
    expect(retried).toEqual({ execution: 2, nodeIds: ['b', 'c'] });
    const seen: string[] = [];
    await stage.carryOut(run, ({ node }) => seen.push(node));
    expect(seen).toEqual(['b', 'c']);
    const after = await stage.nodes(run);
    for (const id of ['a', 'd'])
      expect(after[id]).toMatchObject({ attempts: 1, output_hash: before[id]!.output_hash, execution: 1 });
    expect(after.c).toMatchObject({ attempts: 2, execution: 2, state: 'succeeded' });
    expect(await stage.run(run)).toMatchObject({ state: 'succeeded', nodes_succeeded: 4, nodes_ended: 4 });
  });
});

describe('two masters on one run', () => {
  it('of 2 000 nodes come to one end: each node has had one task, none is forgotten', async () => {
    const nodes: Record<string, object> = {};
    let seed = 7;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed / 2_147_483_648;
    };
    for (let i = 0; i < 1_400; i++) {
      const needs = [...new Set([1, 2, 3].map(() => i - 1 - Math.floor(random() * 60)).filter((n) => n >= 0))];
      nodes[`n${i}`] = { task: 'work', needs: needs.map((n) => `n${n}`) };
    }
    nodes.map = {
      needs: ['n700'],
      for_each: Array.from({ length: 600 }, (_, i) => i),
      task: 'work',
      input: { $expr: 'item' },
    };
    const run = await pair.start({ name: 'busy', nodes });
    // In random order, in small batches, now one master poked, now the other, now both.
    const held: StageTask[] = [];
    let done = 0;
    while (['pending', 'running'].includes((await pair.run(run)).state)) {
      held.push(...(await pair.take(40)));
      const batch: { task: StageTask; output: JsonValue }[] = [];
      for (let i = 0; i < 1 + random() * 40 && held.length > 0; i++) {
        const [task] = held.splice(Math.floor(random() * held.length), 1);
        batch.push({ task: task!, output: 1 });
      }
      done += batch.length;
      await pair.succeed(batch);
      if (batch.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(await pair.run(run)).toMatchObject({ state: 'succeeded', failure_message: null });
    expect(done).toBe(2_000);
    expect(await pair.tasksPer(run)).toEqual(Array.from({ length: 2_000 }, () => 1));
    const [advances] = await pair.sql.unsafe('select count(*)::integer as n from baton.advances where run_id = $1', [
      run,
    ]);
    expect(advances!.n).toBe(0);
    // Both of them have stepped it.
    const steps = pair.masters.map((m) => m.counters.read().baton_run_steps_total);
    expect(Math.min(...steps)).toBeGreaterThan(0);
  }, 120_000);
});
