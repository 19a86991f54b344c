import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

const hashOf = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');

test('put uploads a file and prints its hash, or what names it', async () => {
  const { baton, fake, directory, log } = await commandLine();
  const bytes = randomBytes(5_000_000);
  const file = join(directory, 'model.bin');
  await writeFile(file, bytes);
  const { exitCode, stdout, stderr } = await baton(['artifact', 'put', file]);
  expect([exitCode, stdout]).toEqual([0, `${hashOf(bytes)}\n`]);
  expect(stderr).toContain(`--artifact model.bin=${hashOf(bytes)}`);
  expect(hashOf(fake.keep.blobs.get(hashOf(bytes))!)).toBe(hashOf(bytes));
  const json = await baton(['artifact', 'put', file, '--name', 'models/a', '-o', 'json']);
  expect(JSON.parse(json.stdout)).toEqual({
    __baton: 'artifact',
    name: 'models/a',
    sha256: hashOf(bytes),
    sizeBytes: 5_000_000,
  });
  expect(await log()).toMatchObject([{ command: 'artifact put', name: 'model.bin', size_bytes: 5_000_000 }, {}]);
});

test.each([
  ['a directory', 'directory', [], 64, 'pack a directory'],
  ['nothing', 'nothing', [], 64, 'cannot be read'],
  ['a name that is none', 'file', ['--name', '../x'], 1, 'parts separated by /'],
])('put refuses %s', async (_, name, flags, code, why) => {
  const { baton, directory } = await commandLine();
  await mkdir(join(directory, 'directory'));
  await writeFile(join(directory, 'file'), 'x');
  const { exitCode, stdout, stderr } = await baton(['artifact', 'put', join(directory, name), ...flags]);
  expect([exitCode, stdout]).toEqual([code, '']);
  expect(stderr).toContain(why);
});

test('a task is handed files by hash, and by path', async () => {
  const { baton, fake, directory } = await commandLine();
  const file = join(directory, 'data');
  await writeFile(file, 'hello');
  const known = 'ab'.repeat(32);
  const { exitCode, stderr } = await baton([
    'task',
    'submit',
    'k',
    '--artifact',
    `a/b=${known}`,
    '--artifact',
    `data=@${file}`,
  ]);
  expect([exitCode, stderr]).toEqual([0, expect.any(String)]);
  expect(fake.keep.blobs.has(hashOf('hello'))).toBe(true);
  const task = [...fake.specs.values()].at(-1)!;
  expect(task.artifacts).toMatchObject({ 'a/b': { sha256: known }, data: { sha256: hashOf('hello'), sizeBytes: 5n } });
  for (const wrong of ['data', '=x', 'data=abc', 'data=@'])
    expect((await baton(['task', 'submit', 'k', '--artifact', wrong])).stderr).toContain('names no file');
});
