import { FailureSchema, FailureType, NodeState, RunState, WorkerState } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { createBaton } from '../baton.ts';
import { RunCancelled, RunFailed } from '../tasks/outcome.ts';
import { task } from '../tasks/task.ts';
import { FakeBaton } from '../testing/index.ts';
import { graph } from '../workflows/graph.ts';
import { workflow } from '../workflows/workflow-function.ts';

const definition = { name: 'energy', nodes: { generate: {}, analyze: { needs: ['generate'] } } };

function setUp() {
  const fake = new FakeBaton();
  return { fake, baton: createBaton({ transport: fake.transport, retry: { baseDelayMs: 1, maxDelayMs: 2 } }) };
}

test('a run of a definition: start, watch over a cut connection, result', async () => {
  const { fake, baton } = setUp();
  const run = await baton.runs.start(definition, { input: { year: 2017 }, labels: { who: 'me' } });
  expect(await run.status()).toMatchObject({ workflowName: 'energy', state: 'running', input: { year: 2017 } });
  const states: string[] = [];
  for await (const view of run.watch()) {
    states.push(`${view.state} ${view.nodes.map((node) => node.state).join(' ')}`);
    if (states.length === 1) {
      fake.cutStreams();
      fake.updateRun(run.id, (stored) => {
        stored.nodes[0]!.state = NodeState.SUCCEEDED;
        stored.nodes[0]!.outputPayload = { case: 'outputJson', value: '{"rows":17}' };
      });
    } else if (states.length === 2) {
      fake.updateRun(run.id, (stored) => {
        stored.state = RunState.SUCCEEDED;
        stored.nodes[1]!.state = NodeState.SUCCEEDED;
      });
    }
  }
  expect(states).toEqual(['running pending pending', 'running succeeded pending', 'succeeded succeeded succeeded']);
  expect((await run.result()).nodes[0]?.output).toEqual({ rows: 17 });
});

test('result() throws RunFailed, naming the node and why; retry opens the next execution', async () => {
  const { fake, baton } = setUp();
  await baton.workflows.apply(definition);
  const run = await baton.runs.start('energy');
  fake.updateRun(run.id, (stored) => {
    stored.state = RunState.FAILED;
    stored.failedNodeId = 'analyze';
    stored.failureMessage = 'EVALUATION_ERROR: column missing';
    stored.nodes[0]!.state = NodeState.SUCCEEDED;
    stored.nodes[1]!.state = NodeState.FAILED;
  });
  const error = await run.result().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RunFailed);
  expect((error as RunFailed).message).toContain('at node "analyze": EVALUATION_ERROR: column missing');
  expect(await run.retry()).toEqual({ execution: 2, nodeIds: ['analyze'] });
});

test('result() throws RunCancelled with its reason', async () => {
  const { baton } = setUp();
  const run = await baton.runs.start(definition);
  expect(await run.cancel('wrong year')).toBe('cancelled');
  const error = await run.result().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RunCancelled);
  expect((error as RunCancelled).reason).toBe('wrong year');
});

test('the same key gives the same run; an unknown name is not_found', async () => {
  const { baton } = setUp();
  const first = await baton.runs.start(definition, { idempotencyKey: 'monday' });
  const second = await baton.runs.start('energy', { idempotencyKey: 'monday' });
  expect([second.id, second.deduplicated]).toEqual([first.id, true]);
  await expect(baton.runs.start('none')).rejects.toMatchObject({ code: 'not_found', reason: 'WORKFLOW_NOT_FOUND' });
});

test('a changed workflow is the next version', async () => {
  const { baton } = setUp();
  expect(await baton.workflows.apply(definition)).toMatchObject({ changed: true, workflow: { version: 1 } });
  expect(await baton.workflows.apply(definition)).toMatchObject({ changed: false, workflow: { version: 1 } });
  const changed = { ...definition, nodes: { generate: {} } };
  expect(await baton.workflows.apply(changed)).toMatchObject({ changed: true, workflow: { version: 2 } });
  expect((await baton.workflows.list().all()).map(({ name, version }) => [name, version])).toEqual([['energy', 2]]);
});

test('a node called __proto__ reaches the server', async () => {
  const { fake, baton } = setUp();
  const odd = JSON.parse('{"name":"odd","nodes":{"__proto__":{}}}') as Record<string, unknown>;
  const run = await baton.runs.start(odd);
  expect(fake.run(run.id).nodes.map((node) => node.nodeId)).toEqual(['__proto__']);
});

test('events go on from the last cursor over a cut connection', async () => {
  const { fake, baton } = setUp();
  fake.addEvents({ events: [{ event: { type: 1, taskId: '7' }, subscriptions: ['all'] }], cursor: 'c1' });
  const seen: unknown[] = [];
  for await (const { events, cursor } of baton.events.watch()) {
    seen.push([cursor, ...events.map((event) => `${event.type} ${event.taskId}`)]);
    if (cursor === 'c1') {
      fake.cutStreams();
      fake.addEvents({ events: [{ event: { type: 5, taskId: '7' } }], cursor: 'c2' });
    }
    if (cursor === 'c2') break;
  }
  expect(seen).toEqual([
    ['c1', 'task_submitted 7'],
    ['c2', 'task_succeeded 7'],
  ]);
});

test('workers and the system are plain values', async () => {
  const { fake, baton } = setUp();
  fake.addWorker({
    name: 'w1',
    state: WorkerState.BUSY,
    leases: 2,
    capabilities: { slots: 4, memoryBytes: 2n ** 34n, taskClasses: [1, 3], gpus: [{ uuid: 'GPU-1', simulated: true }] },
    metrics: { tasksCompleted: 12n },
  });
  const [worker] = await baton.workers.list().all();
  expect(worker).toMatchObject({
    name: 'w1',
    state: 'busy',
    slots: 4,
    memoryBytes: 17_179_869_184,
    taskClasses: ['cpu_short', 'gpu'],
    gpus: [{ uuid: 'GPU-1', simulated: true }],
    metrics: { tasksCompleted: 12 },
  });
  expect(await baton.workers.drain('w1')).toEqual({ leases: 2 });
  expect(await baton.system.health()).toMatchObject({ healthy: true, parts: [{ name: 'postgres' }] });
  expect(await baton.system.info()).toMatchObject({ protocolVersion: 2, masterId: 'fake' });
  expect((await baton.system.metrics()).map((metric) => metric.name)).toEqual(['baton_tasks_submitted_total']);
});

test('a failure of a node keeps its type in capitals', async () => {
  const { fake, baton } = setUp();
  const run = await baton.runs.start(definition);
  fake.updateRun(run.id, (stored) => {
    stored.nodes[0]!.state = NodeState.FAILED;
    stored.nodes[0]!.failure = create(FailureSchema, { type: FailureType.GPU_ERROR, message: 'xid 79' });
  });
  expect((await run.status()).nodes[0]?.failure).toMatchObject({ type: 'GPU_ERROR', message: 'xid 79' });
});

test('a graph is started as it is: its input and its output have types', async () => {
  const { fake, baton } = setUp();
  const sum = task({ id: 'sum', run: (_: { year: number }) => ({ total: 1 }) });
  const wf = graph<{ year: number }>({ id: 'energy' });
  const node = wf.node('sum', sum, { input: ({ input }) => ({ year: input.year }) });
  const withOutput = wf.output({ total: node.output.total });
  const run = await baton.runs.start(withOutput, { input: { year: 2017 } });
  fake.updateRun(run.id, (stored) => {
    stored.state = RunState.SUCCEEDED;
    stored.outputPayload = { case: 'outputJson', value: '{"total":42}' };
  });
  const { total } = await run.output();
  expect(total satisfies number).toBe(42);
  expect((await run.result()).output?.total satisfies number | undefined).toBe(42);
  expect(await run.status()).toMatchObject({ workflowName: 'energy', input: { year: 2017 } });
  // @ts-expect-error: the year is a number
  await baton.runs.start(withOutput, { input: { year: 'MMXVII' } });
  // @ts-expect-error: the input is missing
  await baton.runs.start(withOutput);
  await baton.runs.start(graph({ id: 'energy' }).output({ all: 1 }));
});

test('a durable function is started by its value', async () => {
  const { baton } = setUp();
  const order = workflow({ id: 'order', run: async (_, input: { amount: number }) => ({ paid: input.amount }) });
  await baton.workflows.apply({ name: 'order', nodes: { a: {} } });
  const run = await baton.runs.start(order, { input: { amount: 3 } });
  expect(await run.status()).toMatchObject({ workflowName: 'order', input: { amount: 3 } });
  const outputOf = async () => (await run.output()).paid satisfies number;
  expect(outputOf).toBeTypeOf('function');
  // @ts-expect-error: the amount is a number
  const refused = () => baton.runs.start(order, { input: { amount: 'three' } });
  expect(refused).toBeTypeOf('function');
});

test('output() reads an output that is a blob', async () => {
  const { fake, baton } = setUp();
  const run = await baton.runs.start(definition);
  const blob = await baton.blobs.put(new TextEncoder().encode('{"total":42}'));
  fake.updateRun(run.id, (stored) => {
    stored.state = RunState.SUCCEEDED;
    stored.outputPayload = {
      case: 'outputJson',
      value: JSON.stringify({ ...blob, __baton: 'blob', encoding: 'json' }),
    };
  });
  expect(await run.output()).toEqual({ total: 42 });
});
