import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BatonError, createBaton, RunCancelled, RunFailed, type RunView } from '@baton/client';
import type { ModeStack } from '@baton/testkit/modes';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { containerService } from './container-service.ts';
import { detail, post } from './curl.ts';

export function workflows(stack: () => ModeStack): void {
  const client = () => createBaton({ url: stack().url });
  let files = 0;
  const newFile = () => join(stack().home, `file-${++files}`);

  /** A chain file of these containers in the order of the links, written down in another. */
  function chainFile(name: string, addresses: Record<string, string>) {
    const ids = Object.keys(addresses);
    const containers = ids.map((id, i) => [
      id,
      {
        id,
        input_file: `data/${i}.json`,
        output_file: `data/${i + 1}.json`,
        next_node: ids[i + 1] ?? null,
        timeout_seconds: 10,
      },
    ]);
    return {
      workflow_name: name,
      start_node: ids[0]!,
      execution_mode: 'grpc',
      service_registry: addresses,
      containers: Object.fromEntries(containers.reverse()),
    };
  }

  const nodeOf = (run: RunView, id: string) => run.nodes.find(({ nodeId }) => nodeId === id)!;

  async function failedRun(result: Promise<unknown>): Promise<RunFailed> {
    const error = await result.then(
      () => expect.fail('the run should have failed'),
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(RunFailed);
    return error as RunFailed;
  }

  describe('the chain form', () => {
    test('calls existing services in the order of the links, with the paths as written', async () => {
      await using service = await containerService();
      const file = chainFile('chain', {
        generator: service.address,
        analyzer: service.address,
        reporter: service.address,
      });
      expect(Object.keys(file.containers)).toEqual(['reporter', 'analyzer', 'generator']);
      const started = await client().runs.start(file);
      const run = await started.result();
      expect(run).toMatchObject({ state: 'succeeded', workflowName: 'chain', execution: 1, nodesSucceeded: 3 });
      expect(service.calls).toEqual([
        { inputFile: 'data/0.json', outputFile: 'data/1.json' },
        { inputFile: 'data/1.json', outputFile: 'data/2.json' },
        { inputFile: 'data/2.json', outputFile: 'data/3.json' },
      ]);
      expect(run.nodes.map(({ nodeId, needs, state, attempts }) => ({ nodeId, needs, state, attempts }))).toEqual([
        { nodeId: 'generator', needs: [], state: 'succeeded', attempts: 1 },
        { nodeId: 'analyzer', needs: ['generator'], state: 'succeeded', attempts: 1 },
        { nodeId: 'reporter', needs: ['analyzer'], state: 'succeeded', attempts: 1 },
      ]);
      expect(nodeOf(run, 'reporter').output).toMatchObject({ success: true, message: 'wrote data/3.json' });
      expect(nodeOf(run, 'reporter').outputHash).toMatch(/^[0-9a-f]{64}$/);
    });

    test('a step that says no stops the run, says which and why; a retry goes on from there', async () => {
      let isBroken = true;
      await using service = await containerService(({ outputFile }) => {
        if (isBroken && outputFile === 'data/2.json') return { success: false, message: 'row 7 has no year' };
        return { success: true, message: `wrote ${outputFile}` };
      });
      const file = chainFile('mended', { first: service.address, second: service.address, third: service.address });
      const started = await client().runs.start(file);
      // Three retries after 5, 10 and 20 s come first, for a service may be mended meanwhile.
      const run = await (async () => {
        for await (const view of started.watch()) {
          const node = nodeOf(view, 'second');
          if (node.taskId && node.state === 'running') await putForward(node.taskId);
          if (view.state === 'failed') return view;
        }
        return expect.fail('the watch ended');
      })();
      expect(run).toMatchObject({ state: 'failed', failedNodeId: 'second' });
      expect(run.failureMessage).toContain('second');
      expect(run.failureMessage).toContain('row 7 has no year');
      expect(nodeOf(run, 'third')).toMatchObject({ state: 'skipped', attempts: 0 });
      const kept = nodeOf(run, 'first');
      expect(kept).toMatchObject({ state: 'succeeded', attempts: 1 });
      expect((await failedRun(started.result())).message).toContain('row 7 has no year');

      isBroken = false;
      expect(await started.retry()).toEqual({ execution: 2, nodeIds: ['second', 'third'] });
      const mended = await started.result();
      expect(mended).toMatchObject({ state: 'succeeded', execution: 2, nodesSucceeded: 3 });
      expect(nodeOf(mended, 'first')).toMatchObject({
        attempts: 1,
        outputHash: kept.outputHash,
        taskId: kept.taskId,
        execution: 1,
      });
      expect(nodeOf(mended, 'second')).toMatchObject({ execution: 2 });
      expect(service.calls.filter(({ outputFile }) => outputFile === 'data/1.json')).toHaveLength(1);
    });
  });

  /** The clock of a task that waits for its next attempt is put forward, so that nobody waits for it. */
  async function putForward(taskId: string): Promise<void> {
    const sql = postgres(stack().databaseUrl, { max: 1 });
    await sql`UPDATE baton.waiting SET due_at = clock_timestamp() WHERE task_id = ${taskId}`;
    await sql.end();
  }

  describe('the nodes form', () => {
    test('functions fan out and in; inputs come from the run and from other nodes', async () => {
      const run = await (
        await client().runs.start(
          {
            name: 'diamond',
            nodes: {
              total: {
                task: 'sum',
                needs: ['left', 'right'],
                input: { a: { $from: 'left' }, b: { $from: 'right', path: ['n'] } },
              },
              left: { task: 'sum', needs: ['top'], input: { a: { $from: 'top', path: ['x'] }, b: 1 } },
              right: { task: 'echo', needs: ['top'], input: { n: { $input: ['more'] } } },
              top: { task: 'echo', input: { x: 10 } },
            },
          },
          { input: { more: 31 } },
        )
      ).result();
      expect(run.nodes.map(({ nodeId }) => nodeId)).toEqual(['top', 'left', 'right', 'total']);
      expect(nodeOf(run, 'total').output).toBe(42);
      expect(nodeOf(run, 'total').needs).toEqual(['left', 'right']);
      expect(run.input).toEqual({ more: 31 });
    });

    test('names are data, __proto__ too', async () => {
      const json = `{"name":"odd names","nodes":{
      "__proto__":{"task":"echo","input":{"__proto__":"kept"}},
      "constructor":{"task":"echo","needs":["__proto__"],"input":{"$from":"__proto__"}}}}`;
      const started = await post(stack().url, 'WorkflowService/StartRun', { definitionJson: json });
      expect(started, JSON.stringify(started.body)).toMatchObject({ status: 200 });
      const run = await client().runs.handle(started.body.runId).result();
      expect(run.nodes.map(({ nodeId, state }) => [nodeId, state])).toEqual([
        ['__proto__', 'succeeded'],
        ['constructor', 'succeeded'],
      ]);
      const { body } = await post(stack().url, 'WorkflowService/GetRun', {
        runId: started.body.runId,
        format: 'PAYLOAD_FORMAT_TEXT',
      });
      expect(body.run.nodes[1].outputJson).toBe('{"__proto__":"kept"}');
    });

    test('only what failed runs again', async () => {
      const file = newFile();
      const started = await client().runs.start({
        name: 'partly',
        defaults: { retry: { max_attempts: 1 } },
        nodes: {
          steady: { task: 'echo', input: 'steady' },
          shaky: { task: 'fails-until', input: { file } },
          after: { task: 'echo', needs: ['steady', 'shaky'], input: [{ $from: 'steady' }, { $from: 'shaky' }] },
        },
      });
      const error = await failedRun(started.result());
      expect(error.message).toContain('shaky');
      const before = await started.status();
      expect(before).toMatchObject({ state: 'failed', failedNodeId: 'shaky', nodesSucceeded: 1 });
      expect(nodeOf(before, 'after').state).toBe('skipped');
      await writeFile(file, '');
      expect(await started.retry()).toEqual({ execution: 2, nodeIds: ['shaky', 'after'] });
      const run = await started.result();
      expect(nodeOf(run, 'after').output).toEqual(['steady', 'found in attempt 1']);
      const { attempts, outputHash, taskId } = nodeOf(before, 'steady');
      expect(nodeOf(run, 'steady')).toMatchObject({ attempts, outputHash, taskId });
      expect(nodeOf(run, 'shaky')).toMatchObject({ attempts: 2, execution: 2 });
    });

    test('a cancelled run stops what runs and skips the rest; it can be retried', async () => {
      const file = newFile();
      const started = await client().runs.start({
        name: 'cancelled',
        nodes: {
          wait: { task: 'gated', input: { file, value: 7 } },
          after: { task: 'echo', needs: ['wait'], input: 1 },
        },
      });
      for await (const view of started.watch()) {
        const { taskId } = nodeOf(view, 'wait');
        if (taskId && (await client().tasks.get(taskId)).state === 'leased') break;
      }
      await started.cancel('changed my mind');
      await expect(started.result()).rejects.toBeInstanceOf(RunCancelled);
      const run = await started.status();
      expect(run).toMatchObject({ state: 'cancelled', cancelReason: 'changed my mind' });
      expect(run.nodes.map(({ nodeId, state }) => [nodeId, state])).toEqual([
        ['wait', 'cancelled'],
        ['after', 'skipped'],
      ]);
      await writeFile(file, '');
      await started.retry();
      expect((await started.result()).state).toBe('succeeded');
      await expect(started.retry()).rejects.toMatchObject({ code: 'failed_precondition', reason: 'RUN_NOT_RETRYABLE' });
    });

    test('start is idempotent by key; a stored workflow runs by its name, in any version', async () => {
      const baton = client();
      const definition = (input: unknown) => ({ name: 'stored', nodes: { only: { task: 'echo', input } } });
      const first = await baton.workflows.apply(definition('one'));
      expect(first).toMatchObject({ changed: true, workflow: { name: 'stored', version: 1, nodeIds: ['only'] } });
      expect((await baton.workflows.apply(definition('one'))).changed).toBe(false);
      expect((await baton.workflows.apply(definition('two'))).workflow.version).toBe(2);
      const newest = await (await baton.runs.start('stored')).result();
      expect(newest).toMatchObject({ workflowVersion: 2, nodes: [{ output: 'two' }] });
      const older = await (await baton.runs.start('stored', { version: 1 })).result();
      expect(older).toMatchObject({ workflowVersion: 1, nodes: [{ output: 'one' }] });

      const options = { input: { a: 1 }, idempotencyKey: 'monday' };
      const runs = await Promise.all(Array.from({ length: 5 }, () => baton.runs.start('stored', options)));
      expect(new Set(runs.map(({ id }) => id)).size).toBe(1);
      expect(runs.filter(({ deduplicated }) => !deduplicated)).toHaveLength(1);
      const conflict = baton.runs.start('stored', { ...options, input: { a: 2 } });
      await expect(conflict).rejects.toMatchObject({ code: 'failed_precondition', reason: 'IDEMPOTENCY_CONFLICT' });
      await expect(baton.runs.start('nowhere')).rejects.toMatchObject({ code: 'not_found' });
      const listed = [];
      for await (const { id } of baton.runs.list({ workflowName: 'stored', pageSize: 2 })) listed.push(id);
      expect(listed).toHaveLength(3);
      expect(new Set(listed).size).toBe(3);
    });
  });

  describe('a broken definition', () => {
    const broken = {
      workflow_name: '',
      start_node: 'a',
      execution_mode: 'carrier pigeon',
      service_registry: { a: 'nowhere', b: '127.0.0.1:99999' },
      containers: {
        a: { id: 'A', input_file: '', output_file: 'x', next_node: 'b', timeout_seconds: 'soon' },
        b: { id: 'b', input_file: 'x', output_file: 'y', next_node: 'a', timeout_seconds: 5 },
        c: { id: 'c', output_file: 'y', next_node: 'd', timeout_seconds: -1 },
      },
    };
    const wanted = [
      'workflow_name',
      'execution_mode',
      'service_registry.a',
      'service_registry.b',
      'service_registry.c',
      'containers.a.id',
      'containers.a.input_file',
      'containers.a.timeout_seconds',
      'containers.b.next_node',
      'containers.c.input_file',
      'containers.c.next_node',
      'containers.c.timeout_seconds',
      'containers.c',
    ];

    test('is told in full, with paths, by Validate, Apply and Start, and nothing is stored', async () => {
      const { problems, nodeIds } = await client().workflows.validate(broken);
      const paths = problems.map(({ path }) => path);
      expect(nodeIds).toEqual([]);
      expect(new Set(paths)).toEqual(new Set(wanted));
      expect(problems.find(({ code }) => code === 'CYCLE')?.message).toContain('"a" → "b" → "a"');

      const definitionJson = JSON.stringify({ ...broken, workflow_name: 'broken' });
      for (const method of ['ApplyWorkflow', 'StartRun']) {
        const answer = await post(stack().url, `WorkflowService/${method}`, { definitionJson });
        expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_argument' } });
        expect(detail(answer, 'ErrorInfo').reason).toBe('INVALID_WORKFLOW');
        const fields = detail(answer, 'BadRequest').fieldViolations.map(({ field }: { field: string }) => field);
        expect(new Set(fields)).toEqual(new Set(wanted.slice(1)));
      }
      await expect(client().workflows.get('broken')).rejects.toBeInstanceOf(BatonError);
      const runs = [];
      for await (const { id } of client().runs.list({ workflowName: 'broken' })) runs.push(id);
      expect(runs).toEqual([]);
    });

    test.for([
      ['text that is not JSON', '{"name": "x",', ''],
      ['an empty list', '[]', ''],
      ['a form that is neither', '{"hello": 1}', ''],
      ['two keys of one name', '{"name":"x","nodes":{"a":{"task":"echo"},"a":{"task":"echo"}}}', 'nodes'],
      ['JSON nested 10 000 deep', `${'['.repeat(10_000)}${']'.repeat(10_000)}`, ''],
      [
        'a cycle of nodes',
        '{"name":"x","nodes":{"a":{"task":"t","needs":["b"]},"b":{"task":"t","needs":["a"]}}}',
        'nodes',
      ],
      ['a need of nobody', '{"name":"x","nodes":{"a":{"task":"t","needs":["z"]}}}', 'nodes.a.needs[0]'],
      ['NUL in a name', '{"name":"x\\u0000","nodes":{"a":{"task":"t"}}}', 'name'],
    ])('%s', async ([, definitionJson, path]) => {
      const { status, body } = await post(stack().url, 'WorkflowService/ValidateWorkflow', { definitionJson });
      expect(status).toBe(200);
      expect(body.problems.length).toBeGreaterThan(0);
      if (path) expect(body.problems.map((problem: { path: string }) => problem.path).join()).toContain(path);
      const started = await post(stack().url, 'WorkflowService/StartRun', { definitionJson });
      expect(started).toMatchObject({ status: 400, body: { code: 'invalid_argument' } });
    });
  });
}
