import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BatonError, createBaton, RunCancelled, RunFailed, type RunView } from '@baton/client';
import type { ModeStack } from '@baton/testkit/modes';
import { expect, test } from 'vitest';

export function functions(stack: () => ModeStack): void {
  const baton = () => createBaton({ url: stack().url });
  let files = 0;
  const newFile = () => {
    const file = join(stack().home, `effects-${++files}`);
    writeFileSync(file, '');
    return file;
  };
  const effects = (file: string): { stepKey: string; name: string }[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));

  async function reaches(id: string, isThere: (run: RunView) => boolean): Promise<RunView> {
    for await (const run of baton().runs.watch(id)) if (isThere(run)) return run;
    return expect.fail('the run ended before');
  }

  test('a function waits for tasks, sleeps, signals and children, and each step is made once', async () => {
    const file = newFile();
    const run = await baton().runs.start('order', { input: { file, sleepMs: 1_000 } });
    const waiting = await reaches(
      run.id,
      (r) => r.state === 'waiting' && (r.waitingFor ?? []).includes('signal approved'),
    );
    expect(waiting.form).toBe('function');
    await run.signal('approved', { by: 'Ada' });
    const { output } = await run.result();
    const { nodes } = await run.status();
    expect(output).toEqual({ charge: 'charged', six: 6, eight: 8, approved: { by: 'Ada' }, late: true, sum: 3 });
    expect(effects(file).map((e) => e.name)).toEqual(['charge', 's1', 's2']);
    expect(nodes.map((n) => [n.kind, n.nodeId, n.state])).toEqual([
      ['step', 'charge', 'succeeded'],
      ['task', 'double', 'succeeded'],
      ['task', 'double', 'succeeded'],
      ['sleep', 'sleep', 'succeeded'],
      ['signal', 'approved', 'succeeded'],
      ['signal', 'never', 'succeeded'],
      ['child', 'walk', 'succeeded'],
    ]);
  });

  test('functions that wait hold no slot: many more wait than there are slots', async () => {
    const file = newFile();
    const runs = await Promise.all(Array.from({ length: 30 }, () => baton().runs.start('patient', { input: file })));
    for (const run of runs) await reaches(run.id, (r) => r.state === 'waiting');
    const walked = await (await baton().runs.start('walk', { input: { file: newFile(), steps: 3 } })).result();
    expect(walked.output).toMatchObject({ sum: 6 });
    await Promise.all(runs.map((run, i) => run.signal('answer', i)));
    const outputs = await Promise.all(runs.map(async (run) => (await run.result()).output));
    expect(outputs).toEqual(runs.map((_, i) => i));
    expect(new Set(effects(file).map((e) => e.stepKey)).size).toBe(30);
    expect(effects(file)).toHaveLength(30);
  });

  test('a signal that comes before it is waited for is kept; an ended run and a graph take none', async () => {
    const file = newFile();
    const run = await baton().runs.start('patient', { input: file });
    await run.signal('answer', 1, { idempotencyKey: 'k' });
    await run.signal('answer', 2, { idempotencyKey: 'k' });
    expect((await run.result()).output).toBe(1);
    // Who did not hear that it was taken asks again, and is told so though the run has ended by now.
    await run.signal('answer', 1, { idempotencyKey: 'k' });
    const refused = await run.signal('answer', 3).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(BatonError);
    expect((refused as BatonError).reason).toBe('RUN_ENDED');
  });

  test('the same key gives the same run', async () => {
    const file = newFile();
    const start = () => baton().runs.start('walk', { input: { file, steps: 1 }, idempotencyKey: 'once' });
    const [a, b] = await Promise.all([start(), start()]);
    expect(a.id).toBe(b.id);
    await a.result();
    expect(effects(file)).toHaveLength(1);
  });

  test('a step that fails for good fails the run; a retry keeps what succeeded and goes on', async () => {
    const file = newFile();
    const flag = join(stack().home, 'flag');
    const run = await baton().runs.start('fragile', { input: { file, flag } });
    const failed = (await run.result().catch((error: unknown) => error)) as RunFailed;
    expect(failed).toBeInstanceOf(RunFailed);
    expect(failed.run.failureMessage).toMatch(/step `second` failed after 2 attempts: not yet/);
    writeFileSync(flag, '');
    expect(await run.retry()).toEqual({ execution: 2, nodeIds: ['second'] });
    expect((await run.result()).output).toMatchObject({
      first: 1,
      second: 2,
      caught: expect.stringMatching(/never works/),
    });
    expect(effects(file).map((e) => e.name)).toEqual(['first', 'second', 'second', 'second']);
  });

  test('a cancel ends the function, its tasks and its children', async () => {
    const run = await baton().runs.start('stuck');
    const waiting = await reaches(run.id, (r) => r.state === 'waiting' && (r.waitingFor ?? []).length === 2);
    const taskId = waiting.nodes.find((n) => n.kind === 'task')!.taskId!;
    const journal = await baton().runs.journal(run.id);
    const childId = journal.entries.find((e) => e.kind === 'child')!.refId;
    await run.cancel('enough');
    expect(await run.result().catch((error: unknown) => error)).toBeInstanceOf(RunCancelled);
    const child = await baton()
      .runs.handle(childId)
      .result()
      .catch((error: unknown) => error);
    expect(child).toBeInstanceOf(RunCancelled);
    await expect.poll(async () => (await baton().tasks.get(taskId)).state).toBe('cancelled');
  });

  test('a cancel stops a running step', async () => {
    const file = newFile();
    const run = await baton().runs.start('gated', { input: { file, open: join(stack().home, 'never') } });
    await expect.poll(() => effects(file).length).toBe(2);
    await run.cancel('enough');
    expect(await run.result().catch((error: unknown) => error)).toBeInstanceOf(RunCancelled);
  });

  test('graphs and functions carry each other out', async () => {
    const file = newFile();
    await baton().workflows.apply({
      name: 'with-function',
      nodes: {
        walk: { workflow: 'walk', input: { file, steps: 2 } },
        double: { task: 'double', needs: ['walk'], input: { $from: 'walk', path: ['sum'] } },
      },
      output: { $from: 'double' },
    });
    const graph = await (await baton().runs.start('with-function')).result();
    expect(graph.nodes.map((n) => [n.nodeId, n.state, n.output])).toContainEqual(['double', 'succeeded', 6]);
    const run = await baton().runs.start('outer', { input: 'with-function' });
    expect((await run.result()).output).toEqual({ child: 6 });
    expect(effects(file)).toHaveLength(4);
    const unknown = await baton().runs.start('outer', { input: 'nothing-like-it' });
    const failed = (await unknown.result().catch((error: unknown) => error)) as RunFailed;
    expect(failed.run.failureMessage).toMatch(/child `nothing-like-it` failed: WORKFLOW_NOT_FOUND/);
  });

  test('a run of many entries and large outputs is replayed from pages', async () => {
    const run = await baton().runs.start('heavy', { input: { steps: 30, bytes: 400_000, signal: 'go' } });
    await reaches(run.id, (r) => r.state === 'waiting');
    await run.signal('go');
    expect((await run.result()).output).toBe(30 * 400_000);
    expect((await baton().runs.journal(run.id)).entries).toHaveLength(31);
  }, 60_000);

  test('many tasks side by side are submitted at once, and all that they gave is there', async () => {
    const run = await baton().runs.start('fan', { input: 300 });
    expect((await run.result()).output).toBe(300 * 299);
  }, 60_000);

  test('a task has the resources, requirements, variables and timeouts of its definition, or is a program', async () => {
    const run = await baton().runs.start('equipped');
    const { output } = await run.result();
    expect(output).toEqual({ greeting: 'hello', printed: 'hello from a program' });
    const [entry] = (await baton().runs.journal(run.id)).entries;
    const made = await baton().tasks.get(entry!.refId!);
    expect(made).toMatchObject({
      kind: 'configured',
      environment: { set: { GREETING: 'hello' } },
      requires: { os: ['darwin', 'linux'] },
      resources: { cpus: 0.5 },
      progressTimeoutMs: 60_000,
    });
  });

  test('a task that asks for what cannot be fails the function, with the reason', async () => {
    const reasonOf = async (workflow: string, input?: unknown) => {
      const run = await baton().runs.start(workflow, { input });
      const failed = (await run.result().catch((error: unknown) => error)) as RunFailed;
      return failed.run.failureMessage;
    };
    expect(await reasonOf('greedy', { cpus: -1 })).toMatch(/task\.resources\.cpus/);
    expect(await reasonOf('meddling')).toMatch(/LD_PRELOAD.*cannot be set by a task/);
  });

  test('an output above 2 MiB fails its step and says so; a plain task of a workflow is refused', async () => {
    const run = await baton().runs.start('heavy', { input: { steps: 1, bytes: 3_000_000, signal: 'go' } });
    const failed = (await run.result().catch((error: unknown) => error)) as RunFailed;
    expect(failed.run.failureMessage).toMatch(/OUTPUT_TOO_LARGE: the output of step `s` has 3000002 bytes/);
    const task = await baton().submit({ kind: 'heavy' });
    await expect(task.result()).rejects.toThrow(/"heavy" is a workflow and no task/);
  });
}
