import type { JsonValue } from '@baton/domain';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunStage, runStage, type StageTask } from './runs.fixture.ts';

let stage: RunStage;
/** Of the masters. */
let clock = Date.now();
beforeAll(async () => {
  stage = await runStage(1, () => clock);
  await stage.masters[0]!.functions.register(1, [
    {
      id: 'fn',
      release: '',
      description: '',
      queue: '',
      taskClass: 'cpu_short',
      tags: [],
      priority: 0,
      startToCloseMs: 0,
    },
  ]);
});
afterAll(() => stage.drop());

const bytes = (value: JsonValue) => new TextEncoder().encode(JSON.stringify(value));
const fan = (count: number, more: object = {}) => ({
  name: 'functions',
  nodes: {
    each: {
      for_each: { items: Array.from({ length: count }, (_, i) => i), ...more },
      workflow: 'fn',
      input: { n: { $expr: 'item' } },
    },
    all: { needs: ['each'], task: 'all', input: { $from: 'each' } },
  },
});
const n = (task: StageTask) => (task.value as { n: number }).n;
/** A driver does what the function would: here ten times its number. */
const work = (task: StageTask): JsonValue => (task.kind === 'fn' ? n(task) * 10 : task.value);

interface Child {
  id: string;
  state: string;
  parent_item: number;
  cancel_reason: string | null;
}
const childrenOf = async (run: string): Promise<Child[]> => [
  ...(await stage.sql.unsafe<Child[]>(
    'select id, state, parent_item, cancel_reason from baton.runs where parent_run_id = $1 order by parent_item, id',
    [run],
  )),
];

describe('a fan-out over a durable function', () => {
  it('is a run for each item, so many at once as may be, gathered in the order of the items', async () => {
    const run = await stage.start(fan(7, { max_parallel: 3 }));
    await stage.settle();
    let most = 0;
    for (let left = 7; left > 0; ) {
      const drivers = await stage.take();
      most = Math.max(most, drivers.length);
      expect(drivers.length).toBeGreaterThan(0);
      left -= drivers.length;
      await stage.succeed(drivers.reverse().map((task) => ({ task, output: work(task) })));
      await stage.settle();
    }
    expect(most).toBe(3);
    await stage.carryOut(run, work);
    expect(await stage.output(run)).toEqual({ all: [0, 10, 20, 30, 40, 50, 60] });
    const children = await childrenOf(run);
    expect(children.map((child) => [child.parent_item, child.state])).toEqual(
      Array.from({ length: 7 }, (_, i) => [i, 'succeeded']),
    );
    expect((await stage.nodes(run)).each).toMatchObject({ items_total: 7, items_ended: 7, items_failed: 0 });
  });

  it('runs again what failed or is missing alone, each as a new run', async () => {
    const run = await stage.start(fan(6, { max_parallel: 3 }));
    await stage.settle();
    const first = await stage.take();
    await stage.fail(first.filter((task) => n(task) === 1));
    await stage.settle();
    expect(await stage.take()).toEqual([]);
    await stage.succeed(first.filter((task) => n(task) !== 1).map((task) => ({ task, output: work(task) })));
    await stage.settle();
    expect(await stage.run(run)).toMatchObject({ state: 'failed', failed_node_id: 'each' });
    expect(((await stage.nodes(run)).each!.failure as { message: string }).message).toContain('item 1: ');
    const kept = (await childrenOf(run)).filter((child) => child.state === 'succeeded').map(({ id }) => id);
    expect(kept).toHaveLength(2);

    await stage.masters[0]!.runs.retry(1, run);
    const again: number[] = [];
    await stage.carryOut(run, (task) => {
      if (task.kind === 'fn') again.push(n(task));
      return work(task);
    });
    expect(again.sort()).toEqual([1, 3, 4, 5]);
    expect(await stage.output(run)).toEqual({ all: [0, 10, 20, 30, 40, 50] });
    expect((await childrenOf(run)).map(({ id }) => id)).toEqual(expect.arrayContaining(kept));
  });

  it('hands a cancellation down', async () => {
    const run = await stage.start(fan(4, { max_parallel: 2 }));
    await stage.settle();
    const drivers = await stage.take();
    expect(drivers).toHaveLength(2);
    await stage.masters[0]!.runs.cancel(1, run, 'enough');
    await stage.settle();
    expect((await childrenOf(run)).map((child) => child.cancel_reason)).toEqual(['enough', 'enough']);
    // Their workers obey.
    await stage.fail(drivers, 'cancelled');
    await stage.settle();
    expect((await stage.run(run)).state).toBe('cancelled');
    expect((await childrenOf(run)).map((child) => child.state)).toEqual(['cancelled', 'cancelled']);
  });
});

describe('a function that was started by a step that was not written', () => {
  const start = async (parent: string, key: string, item: number | null, value: JsonValue) => {
    const [row] = await stage.sql.unsafe(
      `select namespace_id, name, version, hash, description, definition, stored_form, created_at from baton.workflows where name = 'fn'`,
    );
    return stage.masters[0]!.functions.start(1, {
      workflow: {
        namespaceId: 1,
        name: 'fn',
        version: row!.version as number,
        hash: row!.hash as string,
        description: '',
        definition: row!.definition as string,
        storedForm: row!.stored_form as string,
        createdAt: row!.created_at as Date,
      } as never,
      input: bytes(value),
      encoding: 1,
      idempotencyKey: key,
      labels: null,
      parent: { runId: parent, nodeId: 'each', item },
    });
  };
  const begin = (runId: string, definition: object) =>
    stage.masters[0]!.runs.start('default', {
      workflow: { definitionJson: JSON.stringify(definition) },
      input: null,
      encoding: 1,
      idempotencyKey: null,
      labels: null,
      runId,
    });

  it('is the same run for the next step, also when it has ended meanwhile', async () => {
    const runId = stage.masters[0]!.env.ids.next();
    const { runId: item0 } = await start(runId, `${runId}/1#0/each`, 0, { n: 0 });
    const drivers = await stage.take();
    await stage.succeed(drivers.map((task) => ({ task, output: 'of the lost step' })));
    // Nobody waits for it: its end is told and forgotten.
    await stage.settle();
    await begin(runId, fan(2));
    await stage.carryOut(runId, work);
    expect(await stage.output(runId)).toEqual({ all: ['of the lost step', 10] });
    expect((await childrenOf(runId)).map(({ id }) => id)).toContain(item0);
    expect(await childrenOf(runId)).toHaveLength(2);
  });

  it('as a single node, too', async () => {
    const runId = stage.masters[0]!.env.ids.next();
    await start(runId, `${runId}/1/each`, null, { n: 4 });
    await stage.succeed((await stage.take()).map((task) => ({ task, output: 'early' })));
    await stage.settle();
    await begin(runId, { name: 'single', nodes: { each: { workflow: 'fn', input: { n: 4 } } } });
    await stage.carryOut(runId, work);
    expect(await stage.output(runId)).toEqual({ each: 'early' });
  });

  it('is cancelled when the run that started it has ended without it', async () => {
    const runId = stage.masters[0]!.env.ids.next();
    await begin(runId, { name: 'without', nodes: { a: { task: 'a' } } });
    await stage.carryOut(runId, () => 1);
    const { runId: orphan } = await start(runId, 'of a lost step', 9, { n: 9 });
    clock += 120_000;
    await stage.masters[0]!.functions.wakeSleepers();
    await stage.settle();
    expect(await childrenOf(runId)).toMatchObject([
      { id: orphan, state: 'cancelled', cancel_reason: `run ${runId}, which made it, has ended` },
    ]);
  });
});

describe('a start of a durable function', () => {
  it('gets the version of the code that it names, or the one that was registered last', async () => {
    const { functions, runs } = stage.masters[0]!;
    const code = {
      id: 'versioned',
      description: '',
      queue: '',
      taskClass: 'cpu_short' as const,
      tags: [],
      priority: 0,
    };
    for (const release of ['1', '2']) await functions.register(1, [{ ...code, release, startToCloseMs: 0 }]);
    const started = async (release: string | null) => {
      const { runId } = await runs.start('default', {
        workflow: { name: 'versioned', version: null, release },
        input: null,
        encoding: 1,
        idempotencyKey: null,
        labels: null,
      });
      return (await stage.run(runId)).release;
    };
    expect(await started('1')).toBe('1');
    expect(await started(null)).toBe('2');
    await expect(started('3')).rejects.toMatchObject({
      reason: 'WORKFLOW_NOT_FOUND',
      message: expect.stringContaining('versioned of release 3'),
    });
    // Their drivers are nobody's here.
    await stage.take();
  });
});
