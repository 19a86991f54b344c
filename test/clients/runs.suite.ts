import { createBaton } from '@baton/client';
import { NodeState, RunState, RunView, WorkflowService } from '@baton/contract';
import type { ModeStack } from '@baton/testkit/modes';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';

export function runs(stack: () => ModeStack): void {
  const rpc = () => createClient(WorkflowService, createGrpcTransport({ baseUrl: stack().url }));
  const baton = () => createBaton({ url: stack().url });

  const squares = (name: string) => ({
    name,
    description: `of ${name}`,
    output: { $from: 'sum' },
    nodes: {
      map: {
        for_each: { $input: ['items'] },
        task: 'square',
        input: { $expr: 'item' },
        type: 'reward',
        labels: { a: 'b' },
      },
      sum: { needs: ['map'], task: 'total', input: { $from: 'map' } },
    },
  });

  test('many runs are started by one call, each by itself, and waited for by another', async () => {
    await baton().workflows.apply(squares('many'));
    const asked = Array.from({ length: 20 }, (_, i) => ({
      workflow: { case: 'workflowName' as const, value: i === 7 ? 'absent' : 'many' },
      payload: { case: 'inputJson' as const, value: JSON.stringify({ items: [i, i] }) },
      idempotencyKey: `many ${i}`,
    }));
    const { results } = await rpc().startRuns({ runs: asked });
    expect(results.map(({ result }) => result.case)).toEqual(asked.map((_, i) => (i === 7 ? 'refused' : 'started')));
    expect(results[7]!.result.value).toMatchObject({ code: 'not_found', reason: 'WORKFLOW_NOT_FOUND' });
    const again = await rpc().startRuns({ runs: asked.slice(0, 2) });
    expect(again.results.map(({ result }) => result.value)).toMatchObject([
      { deduplicated: true },
      { deduplicated: true },
    ]);

    const outputs = new Map<string, string>();
    const open = new Set(results.flatMap(({ result }) => (result.case === 'started' ? [result.value.runId] : [])));
    const ids = [...open];
    while (open.size > 0) {
      const { runs, missing } = await rpc().waitRuns({ runIds: [...open], wait: { seconds: 20n } });
      expect(missing).toEqual([]);
      expect(runs.length).toBeGreaterThan(0);
      for (const run of runs) {
        open.delete(run.id);
        expect(run).toMatchObject({ state: RunState.SUCCEEDED, nodes: [], nodesTotal: 2, stepsCompleted: 2 });
        outputs.set(run.id, JSON.stringify(run.outputPayload.value));
      }
    }
    expect(ids.map((id) => outputs.get(id))).toMatchObject(
      Array.from({ length: 20 }, (_, i) => i)
        .filter((i) => i !== 7)
        .map((i) => expect.stringContaining(String(2 * i * i))),
    );
    // Bounded: nothing ends, and the answer comes.
    const none = await rpc().waitRuns({ runIds: ['1'], wait: { seconds: 20n } });
    expect(none).toMatchObject({ runs: [], missing: ['1'] });
  });

  test('a run tells how far it is, its items, its versions, and how long it will take', async () => {
    for (let i = 0; i < 6; i++) {
      const run = await baton().runs.start(squares('told'), { input: { items: [1, 2, 3] } });
      expect(await run.result()).toMatchObject({ output: 14 });
    }
    const started = await baton().runs.start(squares('told'), { input: { items: [1, 2, 'x'] } });
    await expect(started.result()).rejects.toThrow(/1 of 3 items failed/);
    const run = await baton().runs.get(started.id);
    expect(run).toMatchObject({
      state: 'failed',
      form: 'nodes',
      stepsCompleted: 2,
      nodesTotal: 2,
      failedNodeId: 'map',
    });
    expect(run.nodes).toMatchObject([
      { nodeId: 'map', wave: 0, type: 'reward', labels: { a: 'b' }, items: { total: 3, failed: 1 } },
      { nodeId: 'sum', wave: 1, state: 'skipped', skipReason: expect.stringContaining('the run was stopped') },
    ]);
    await expect
      .poll(async () => (await baton().runs.get(started.id)).estimatedMs, { timeout: 15_000 })
      .toBeGreaterThan(0);
    const { run: basic } = await rpc().getRun({ runId: started.id, view: RunView.BASIC });
    expect(basic).toMatchObject({ nodes: [], nodesTotal: 2 });

    const items = await baton().runs.items(started.id, 'map').all();
    expect(items.map(({ index }) => index)).toEqual([0, 1, 2]);
    const failed = await rpc().listRunItems({ runId: started.id, nodeId: 'map', states: [NodeState.FAILED] });
    expect(failed.items).toMatchObject([{ index: 2, state: NodeState.FAILED, attempts: 1 }]);
    const first = await rpc().listRunItems({ runId: started.id, nodeId: 'map', pageSize: 2 });
    const rest = await rpc().listRunItems({
      runId: started.id,
      nodeId: 'map',
      pageSize: 2,
      pageToken: first.nextPageToken,
    });
    expect([...first.items, ...rest.items].map(({ index }) => index)).toEqual([0, 1, 2]);

    await baton().workflows.apply({ ...squares('told'), description: 'another' });
    const versions = await baton().workflows.versions('told').all();
    expect(versions.map(({ version, description }) => [version, description])).toEqual([
      [2, 'another'],
      [1, 'of told'],
    ]);
  });
}
