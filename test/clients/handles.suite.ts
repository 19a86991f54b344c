import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBaton, type OutputChunk, type RunProgress } from '@baton/client';
import type { ModeStack } from '@baton/testkit/modes';
import { expect, test } from 'vitest';
import { approval, count, talk } from './handles.tasks.ts';

export function handles(stack: () => ModeStack): void {
  const baton = () => createBaton({ url: stack().url });
  const text = (data: Uint8Array) => new TextDecoder().decode(data);

  async function gathered<T>(parts: AsyncIterable<T>): Promise<T[]> {
    const all: T[] = [];
    for await (const part of parts) all.push(part);
    return all;
  }

  test('a run streams how far it is, until its end, and goes on behind any cursor', async () => {
    const gate = join(stack().home, 'stream');
    const run = await baton().runs.start({
      name: 'streamed',
      output: { $from: 'b' },
      nodes: { a: { task: 'count', input: [1, 2] }, b: { needs: ['a'], task: 'talk', input: { gate } } },
    });
    const parts: RunProgress[] = [];
    for await (const part of run.stream()) {
      parts.push(part);
      if (part.current.includes('b')) writeFileSync(gate, '');
    }
    expect(parts[0]).toMatchObject({ execution: 1, stepsTotal: 2 });
    expect(parts[0]!.nodes.map((node) => node.nodeId)).toEqual(['a', 'b']);
    expect(parts.map((part) => part.stepsCompleted)).toEqual(parts.map((part) => part.stepsCompleted).sort());
    const told = new Map<string, unknown>();
    for (const { nodes } of parts) for (const node of nodes) told.set(node.nodeId, [node.state, node.output]);
    expect(Object.fromEntries(told)).toEqual({ a: ['succeeded', 2], b: ['succeeded', 'said'] });
    expect(parts.at(-1)).toMatchObject({ state: 'succeeded', stepsCompleted: 2, stepsTotal: 2, output: 'said' });
    // Only what is new behind a cursor, and the end.
    for (const [i, { cursor }] of parts.entries()) {
      const rest = await gathered(run.stream({ cursor }));
      expect(rest.flatMap((part) => part.nodes.map((node) => node.nodeId)).length).toBeLessThanOrEqual(
        parts.slice(i + 1).flatMap((part) => part.nodes).length,
      );
      expect(rest.at(-1)).toMatchObject({ state: 'succeeded', output: 'said' });
    }
    await expect(gathered(run.stream({ cursor: '1.1.1.1.1' }))).rejects.toMatchObject({ reason: 'INVALID_CURSOR' });
    await expect(gathered(baton().runs.handle('77').stream())).rejects.toMatchObject({ reason: 'RUN_NOT_FOUND' });
  });

  test('a retried run tells its nodes anew', async () => {
    const run = await baton().runs.start({
      name: 'again',
      nodes: { a: { task: 'count', input: [] }, b: { needs: ['a'], task: 'count', input: { $expr: 'input.missing' } } },
    });
    const first = await gathered(run.stream());
    expect(first.at(-1)).toMatchObject({ state: 'failed', execution: 1 });
    await run.retry();
    const [part] = await gathered(run.stream({ cursor: first.at(-1)!.cursor }));
    expect(part).toMatchObject({ reset: true, execution: 2 });
    expect(part!.nodes.map((node) => node.nodeId)).toEqual(['a', 'b']);
  });

  test('a durable function streams its journal', async () => {
    const run = await baton().runs.start(approval);
    const parts: RunProgress<string | undefined>[] = [];
    for await (const part of run.stream()) {
      parts.push(part);
      if (part.state === 'waiting') await run.signal('answer', 'yes', { idempotencyKey: 'one' });
    }
    const last = new Map<string, string>();
    for (const { nodes } of parts) for (const node of nodes) last.set(node.nodeId, node.state);
    expect(Object.fromEntries(last)).toEqual({ ask: 'succeeded', answer: 'succeeded', use: 'succeeded' });
    expect(parts.at(-1)).toMatchObject({ state: 'succeeded', stepsCompleted: 3, stepsTotal: 3, output: 'yes' });
    const [end, ...none] = await gathered(run.stream({ cursor: parts.at(-1)!.cursor }));
    expect(none).toEqual([]);
    expect(end).toMatchObject({ state: 'succeeded', nodes: [], output: 'yes' });
  });

  test('what a node streams is followed by its name, and goes on behind any place', async () => {
    const gate = join(stack().home, 'talk');
    const run = await baton().runs.start({
      name: 'talking',
      nodes: { a: { task: 'count', input: [] }, b: { needs: ['a'], task: 'talk', input: { gate } } },
    });
    let said = '';
    let place: { attempt: number; offset: number } | undefined;
    for await (const part of run.nodeOutput('b')) {
      said += text(part.data);
      place ??= part.end;
      writeFileSync(gate, '');
    }
    expect(said).toBe('one\ntwo\n');
    const rest = await gathered(run.nodeOutput('b', { from: place! }));
    expect(rest.map(({ data }) => text(data)).join('')).toBe('two\n');
    await expect(gathered(run.nodeOutput('nowhere'))).rejects.toMatchObject({ reason: 'NODE_NOT_FOUND' });
  });

  test('outputs of any size are read in chunks, from any offset on', async () => {
    const items = 60_000;
    const run = await baton().runs.start({
      name: 'large',
      output: { $from: 'list' },
      nodes: {
        list: { task: 'large', input: items },
        raw: { task: 'large-bytes', input: 3_000_000 },
        small: { task: 'count', input: [1, 2, 3] },
        each: { for_each: [1, 2], task: 'count', input: { $expr: '[item, item]' } },
      },
    });
    const joined = (chunks: readonly OutputChunk[]) => chunks.map(({ data }) => text(data)).join('');
    const chunks = await gathered(run.outputChunks());
    expect(chunks.length).toBeGreaterThan(1);
    const all = joined(chunks);
    expect(JSON.parse(all)).toHaveLength(items);
    expect(chunks[0]).toMatchObject({ offset: 0, encoding: 'json' });
    for (const offset of [1, chunks[1]!.offset, all.length - 5])
      expect(joined(await gathered(run.outputChunks({ offset })))).toBe(all.slice(offset));
    const raw = await gathered(run.outputChunks({ nodeId: 'raw', offset: 2_500_000 }));
    expect(raw.reduce((sum, { data }) => sum + data.byteLength, 0)).toBe(500_000);
    expect(raw[0]).toMatchObject({ offset: 2_500_000, encoding: 'bytes' });
    expect(joined(await gathered(run.outputChunks({ nodeId: 'small' })))).toBe('3');
    expect(joined(await gathered(run.outputChunks({ nodeId: 'each', item: 1 })))).toBe('2');
    expect(await gathered(run.outputChunks({ nodeId: 'small', offset: 99 }))).toEqual([]);
  });

  test('every handle has result, status, cancel, signal and stream; a plain task takes no signal', async () => {
    const gate = join(stack().home, 'handle');
    const task = await baton().enqueue(talk, { gate });
    const run = await baton().runs.start(approval);
    for (const handle of [task, run, baton().tasks.handle(task.id), baton().runs.handle(run.id)])
      expect(handle).toMatchObject({
        id: expect.any(String),
        result: expect.any(Function),
        status: expect.any(Function),
        cancel: expect.any(Function),
        signal: expect.any(Function),
        stream: expect.any(Function),
      });
    writeFileSync(gate, '');
    expect((await gathered(task.stream())).map(({ data }) => text(data)).join('')).toBe('one\ntwo\n');
    const plain = await baton().enqueue(count, []);
    await expect(plain.signal('answer', 1)).rejects.toMatchObject({
      code: 'failed_precondition',
      reason: 'TASK_NOT_SIGNALLABLE',
    });
    // The task that drives a run stands for it.
    let driver: string | undefined;
    for await (const { id, runId } of baton().tasks.list({ kind: 'approval' })) if (runId === run.id) driver = id;
    await baton().tasks.handle(driver!).signal('answer', 'by the task');
    expect((await run.result()).output).toBe('by the task');
  });

  test('an output that is a blob is handed on whole without being read, in parts where they are wanted', async () => {
    const run = await baton().runs.start({
      name: 'blobs',
      nodes: {
        list: { task: 'large', input: 60_000 },
        raw: { task: 'large-bytes', input: 3_000_000 },
        few: { task: 'large', input: 3 },
        whole: { needs: ['list'], task: 'count', input: { $from: 'list' } },
        bytes: { needs: ['raw'], task: 'bytes-of', input: { $from: 'raw' } },
        part: { needs: ['list'], task: 'index-of', input: { $from: 'list', path: [41_234] } },
        computed: { needs: ['list'], task: 'index-of', input: { index: { $expr: 'size(nodes.list.output)' } } },
        each: {
          needs: ['few'],
          for_each: { $from: 'few' },
          task: 'index-of',
          input: { index: { $expr: 'item.index' } },
        },
        wanted: { needs: ['few'], when: 'nodes.few.output[2].index == 2', task: 'count', input: [] },
        named: { needs: ['list'], task: 'count', input: [{ $from: 'list' }] },
      },
    });
    expect(await run.output()).toEqual({
      whole: 60_000,
      bytes: 3_000_000,
      part: 41_234,
      computed: 60_000,
      each: [0, 1, 2],
      wanted: 0,
      named: 1,
    });
    // Nothing of it went through the database as an input.
    const { nodes } = await run.status();
    const { input } = await baton().tasks.get(nodes.find((node) => node.nodeId === 'whole')!.taskId!);
    expect(input).toMatchObject({ __baton: 'blob' });
  });

  test.each([
    [
      'too large for a part',
      { task: 'large', input: 240_000 },
      /node "big" is wanted, which is a blob of \d+ bytes; of at most 16777216/,
    ],
    ['bytes', { task: 'large-bytes', input: 3_000_000 }, /node "big" is wanted, which is a blob that holds bytes/],
  ])('a part of a blob that is %s is refused, naming the node', { timeout: 90_000 }, async (_, big, message) => {
    const start = (node: object) =>
      baton().runs.start({ name: 'refused', nodes: { big, node: { needs: ['big'], ...node } } });
    const runs = await Promise.all([
      start({ task: 'count', input: { $from: 'big', path: [0] } }),
      start({ task: 'count', input: { $expr: 'nodes.big.output[0]' } }),
      start({ for_each: { $from: 'big' }, task: 'count', input: [] }),
      start({ when: 'size(nodes.big.output) > 1', task: 'count', input: [] }),
    ]);
    for (const run of runs) {
      await expect(run.result()).rejects.toThrow(message);
      expect((await run.status()).nodes.at(-1)!.failure).toMatchObject({ type: 'EVALUATION_ERROR' });
    }
    // Its state is no part of it.
    const fine = await start({ when: 'nodes.big.state == "succeeded"', task: 'count', input: [1] });
    expect(await fine.output()).toEqual({ node: 1 });
  });
}
