import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PayloadEncoding } from '@baton/contract';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

async function withCheckpoints() {
  const line = await commandLine();
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const common = { taskId: '42', attempt: 1, epoch: 1, worker: 'w1', encoding: PayloadEncoding.JSON };
  const { keep } = line.fake;
  keep.addCheckpoint({ ...common, number: 1n, score: 0.5, time: timestampFromMs(1_000) }, json({ step: 1 }));
  keep.addCheckpoint({ ...common, number: 2n, score: 0.1, metadata: { loss: '\u001b[31m2' } }, json({ step: 2 }));
  keep.addCheckpoint({ ...common, number: 3n, encoding: PayloadEncoding.BYTES }, Uint8Array.of(0, 255, 10));
  return line;
}

test('list: a table for people, JSON for programs', async () => {
  const { baton } = await withCheckpoints();
  const table = await baton(['checkpoint', 'list', '42']);
  const [head, ...rows] = table.stdout.trimEnd().split('\n');
  expect(head).toMatch(/^NUMBER +TIME +SIZE +SCORE +ATTEMPT +WORKER +SHA-256 +METADATA/);
  expect(rows.map((row) => row.split(/ +/)[0])).toEqual(['3', '2', '1']);
  expect(rows[1]).toMatch(/10 B +0\.1 +1 +w1 +[0-9a-f]{12} +loss=2$/);
  const json = JSON.parse((await baton(['checkpoint', 'list', '42', '-o', 'json', '-n', '2'])).stdout);
  expect(json.map((each: { number: number }) => each.number)).toEqual([3, 2]);
  const none = await baton(['checkpoint', 'list', '43']);
  expect([none.exitCode, none.stdout]).toEqual([0, '']);
  expect(none.stderr).toContain('has no checkpoints');
});

test('get: the newest, the best, one by number; JSON is shown, bytes go to a file', async () => {
  const { baton, directory } = await withCheckpoints();
  const newest = await baton(['checkpoint', 'get', '42']);
  expect(newest.stdout).toMatch(/number +3\n/);
  expect(newest.stderr).toContain('--file FILE');
  const best = await baton(['checkpoint', 'get', '42', '--best']);
  expect(best.stdout).toMatch(/number +1\n.*score +0\.5\n.*\{\n {2}"step": 1\n\}\n$/s);
  expect(JSON.parse((await baton(['checkpoint', 'get', '42', '2', '-o', 'json'])).stdout)).toMatchObject({
    number: 2,
    value: { step: 2 },
  });
  const file = join(directory, 'state');
  const written = await baton(['checkpoint', 'get', '42', '--file', file]);
  expect(written.exitCode).toBe(0);
  expect([...(await readFile(file))]).toEqual([0, 255, 10]);
  expect(await baton(['checkpoint', 'get', '42', '9'])).toMatchObject({ exitCode: 3, stdout: '' });
  expect((await baton(['checkpoint', 'get', '42', '9', '--best'])).exitCode).toBe(64);
  expect((await baton(['checkpoint', 'get', 'x'])).exitCode).toBe(64);
  expect((await baton(['checkpoint', 'get', '42', '0'])).exitCode).toBe(64);
});

test('compare: what differs, side by side', async () => {
  const { baton, fake } = await withCheckpoints();
  fake.keep.differences = [
    { $typeName: 'baton.v1.CheckpointDifference', what: '/step', a: '1', b: '2' },
    { $typeName: 'baton.v1.CheckpointDifference', what: '', a: 'x'.repeat(100), b: '' },
  ];
  const { stdout } = await baton(['checkpoint', 'compare', '42', '1', '2']);
  expect(stdout).toMatch(/^WHAT +1 +2\n\/step +1 +2\n\/ +x{59}… +-\n$/);
  const json = JSON.parse((await baton(['checkpoint', 'compare', '42', '1', '2', '-o', 'json'])).stdout);
  expect(json).toMatchObject({
    a: { number: 1 },
    b: { number: 2 },
    sameContent: false,
    differences: [{ what: '/step' }, {}],
  });
  fake.keep.differences = [];
  expect((await baton(['checkpoint', 'compare', '42', '1', '1'])).stderr).toContain('same bytes');
});

test('delete and prune say what they did, and leave a line in the log', async () => {
  const { baton, fake, log } = await withCheckpoints();
  expect((await baton(['checkpoint', 'delete', '42', '1'])).stderr).toContain('checkpoint 1 of task 42 is deleted');
  expect(await baton(['checkpoint', 'delete', '42', '1'])).toMatchObject({ exitCode: 3 });
  expect(JSON.parse((await baton(['checkpoint', 'prune', '42', '--keep', '1', '-o', 'json'])).stdout)).toEqual({
    deleted: 1,
    freedBytes: 10,
  });
  expect(fake.keep.checkpoints.map(({ checkpoint }) => checkpoint.number)).toEqual([3n]);
  expect((await baton(['checkpoint', 'prune', '42', '--keep', '0'])).exitCode).toBe(64);
  const lines = await log();
  expect(lines.filter(({ msg }) => msg === 'command ended')).toMatchObject([
    { command: 'checkpoint delete', task_id: '42', checkpoint: 1 },
    { command: 'checkpoint prune', task_id: '42', deleted: 1 },
  ]);
});

test('stats: of a task, or of all', async () => {
  const { baton, fake } = await withCheckpoints();
  fake.keep.addCheckpoint({ taskId: '43', number: 1n }, new Uint8Array(2_000));
  expect((await baton(['checkpoint', 'stats', '42'])).stdout).toMatch(/checkpoints +3\ntasks +1\nsize +23 B\n/);
  expect((await baton(['checkpoint', 'stats'])).stdout).toMatch(/checkpoints +4\ntasks +2\nsize +2\.0 KiB\n/);
  expect(JSON.parse((await baton(['checkpoint', 'stats', '42', '-o', 'json'])).stdout)).toMatchObject({ count: 3 });
});
