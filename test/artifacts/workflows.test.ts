import { createHash } from 'node:crypto';
import { createBaton, graph } from '@baton/client';
import { dropUnusedBlobs } from '@baton/store';
import { useStack } from '@baton/testkit/vitest';
import { expect, test } from 'vitest';
import { openLedger } from '../faults/ledger.ts';
import { all, make, read, texts } from './tasks.ts';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url), workers: 2 });
const open = () => createBaton({ url: stack().url });
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');

const chain = {
  name: 'chain',
  nodes: {
    prepare: {
      task: 'texts',
      input: {
        files: [
          ['report.csv', 'a,b\n1,2\n'],
          ['other', 'x'],
        ],
      },
    },
    analyze: {
      task: 'all',
      needs: ['prepare'],
      artifacts: {
        data: { $from: 'prepare', artifact: 'report.csv' },
        'more/other.txt': { $from: 'prepare', artifact: 'other' },
      },
    },
  },
};

test('nodes of a file hand files on, by name; runs show them, and they can be downloaded', async () => {
  const baton = open();
  const run = await baton.runs.start(chain);
  expect(await run.output()).toEqual({ analyze: { data: 'a,b\n1,2\n', 'more/other.txt': 'x' } });
  const { nodes } = await run.status();
  const shown = nodes.find((n) => n.nodeId === 'prepare')!.artifacts!;
  expect(shown.map((a) => [a.name, a.sha256, a.sizeBytes])).toEqual([
    ['other', hashOf('x'), 1],
    ['report.csv', hashOf('a,b\n1,2\n'), 8],
  ]);
  const [listed] = await baton.artifacts.list({ runId: run.id, nodeId: 'prepare', name: 'report.csv' }).all();
  expect(await baton.artifacts.get(listed!).text()).toBe('a,b\n1,2\n');
  expect(await baton.artifacts.list({ runId: run.id, nodeId: 'analyze' }).all()).toEqual([]);
});

test('a file that the producer has not fails the consumer, saying so', async () => {
  const nodes = {
    prepare: chain.nodes.prepare,
    analyze: { task: 'all', needs: ['prepare'], artifacts: { data: { $from: 'prepare', artifact: 'missing' } } },
  };
  const run = await open().runs.start({ name: 'missing', nodes });
  await expect(run.output()).rejects.toThrow('has produced no such file');
});

test('definitions with wrong artifacts are refused, with all that is wrong', async () => {
  const nodes = {
    a: { task: 'texts' },
    b: {
      task: 'all',
      needs: ['a'],
      artifacts: {
        '../x': { $from: 'a', artifact: 'f' },
        y: { $from: 'nobody', artifact: 'f' },
        z: { $from: 'a', artifact: '/etc/passwd' },
        w: 'a',
        v: { $from: 'a', artifact: 'f', more: 1 },
      },
    },
  };
  const problems = await open().workflows.validate({ name: 'wrong', nodes });
  const found = problems.problems.map((p) => [p.path, p.code]).sort();
  expect(found).toEqual([
    ['nodes.b.artifacts.v.more', 'MALFORMED_REFERENCE'],
    ['nodes.b.artifacts.w', 'WRONG_TYPE'],
    ['nodes.b.artifacts.y.$from', 'UNKNOWN_REFERENCE'],
    ['nodes.b.artifacts.z.artifact', 'MALFORMED_REFERENCE'],
    ['nodes.b.artifacts["../x"]', 'INVALID_NAME'],
  ]);
});

test('in a graph: by reference, of items one by one and all together, and by what a task returned', async () => {
  const wf = graph<{ parts: number[] }>({ id: 'fan' });
  const made = wf.forEach('made', make, {
    items: ({ input }) => input.parts,
    input: ({ item }) => ({ seed: 'part', mib: item, name: 'part.bin' }),
  });
  const each = wf.forEach('each', read, {
    needs: [made],
    items: ({ made }) => made,
    input: () => ({}),
    artifacts: ({ index }) => ({ data: made.artifact('part.bin', { item: index }) }),
  });
  const together = wf.node('together', read, {
    needs: [made],
    input: () => ({ name: 'parts/1' }),
    artifacts: { parts: made.artifact('part.bin') },
  });
  const byValue = wf.node('byValue', read, {
    needs: [made],
    input: () => ({}),
    artifacts: ({ made }) => ({ data: made[2]!.file }),
  });
  const run = await open().runs.start(
    wf.output({ made: made.output, each: each.output, together: together.output, byValue: byValue.output }),
    {
      input: { parts: [1, 2, 3] },
    },
  );
  const output = await run.output();
  expect(output.each.map((r) => r.sha256)).toEqual(output.made.map((m) => m.sha256));
  expect(output.byValue.sha256).toBe(output.made[2]!.sha256);
  expect(output.together).toMatchObject({ sha256: output.made[1]!.sha256, names: ['parts/0', 'parts/1', 'parts/2'] });
  const listed = await open().artifacts.list({ runId: run.id, nodeId: 'made' }).all();
  expect(listed.map((a) => a.item).sort()).toEqual([0, 1, 2]);
});

test('what run retry keeps has its files as they were', async () => {
  const baton = open();
  const nodes = {
    prepare: { task: 'texts', input: { files: [['f', 'kept']] } },
    fails: {
      task: 'misuse',
      needs: ['prepare'],
      input: { what: 'missing' },
      artifacts: { data: { $from: 'prepare', artifact: 'f' } },
    },
  };
  const run = await baton.runs.start({ name: 'again', nodes });
  await expect(run.output()).rejects.toThrow('NO_SUCH_ARTIFACT');
  const before = await baton.artifacts.list({ runId: run.id }).all();
  await baton.runs.retry(run.id);
  await expect(run.output()).rejects.toThrow('NO_SUCH_ARTIFACT');
  expect(await baton.artifacts.list({ runId: run.id }).all()).toEqual(before);
  expect(before.map((a) => a.name)).toEqual(['f']);
});

test('blobs that artifacts or inputs name stay, whatever their age', async () => {
  const baton = open();
  const handle = await baton.enqueue(texts, { files: [['old', `of long ago ${Date.now()}`]] });
  await handle.result();
  const [file] = await baton.artifacts.list({ taskId: handle.id }).all();
  const orphan = await baton.blobs.put(`nobody names it ${Date.now()}`);
  await using ledger = openLedger(stack().databaseUrl);
  await ledger.sql`update baton.blobs set used_at = now() - interval '3 days'`;
  await dropUnusedBlobs(ledger.sql as never, 86_400_000, 1_000);
  expect(await baton.artifacts.get(file!).text()).toContain('of long ago');
  await expect(baton.blobs.get(orphan).text()).rejects.toMatchObject({ reason: 'BLOB_NOT_FOUND' });
  const consumer = await baton.enqueue(all, null, { artifacts: { f: file! } });
  expect(Object.keys(await consumer.result())).toEqual(['f']);
});
