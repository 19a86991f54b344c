import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test('put prints the hash alone on stdout; the bytes are those of the file', async () => {
  const { baton, fake, directory, log } = await commandLine();
  const bytes = randomBytes(3_000_000);
  const file = join(directory, 'data.bin');
  await writeFile(file, bytes);
  const { exitCode, stdout, stderr } = await baton(['blob', 'put', file]);
  expect([exitCode, stdout]).toEqual([0, `${hashOf(bytes)}\n`]);
  expect(stderr).toContain('2.9 MiB');
  expect(hashOf(fake.keep.blobs.get(hashOf(bytes))!)).toBe(hashOf(bytes));
  const json = await baton(['blob', 'put', file, '--json', '-o', 'json']);
  expect(JSON.parse(json.stdout)).toEqual({ sha256: hashOf(bytes), sizeBytes: 3_000_000, encoding: 'json' });
  expect(await log()).toMatchObject([{ command: 'blob put', sha256: hashOf(bytes), size_bytes: 3_000_000 }, {}]);
  const missing = await baton(['blob', 'put', join(directory, 'nothing')]);
  expect([missing.exitCode, missing.stdout]).toEqual([64, '']);
  expect(missing.stderr).toContain('cannot be read');
});

test('get writes to stdout, or to a file that takes its name when it is whole', async () => {
  const { baton, fake, directory } = await commandLine();
  const text = new TextEncoder().encode('hello\n'.repeat(1_000));
  const sha256 = hashOf(text);
  fake.keep.blobs.set(sha256, text);
  expect((await baton(['blob', 'get', sha256])).stdout).toBe('hello\n'.repeat(1_000));
  const file = join(directory, 'out');
  expect((await baton(['blob', 'get', sha256, '-o', file])).stderr).toContain(`5.9 KiB are in ${file}`);
  expect(await readFile(file)).toEqual(Buffer.from(text));

  // What comes is not the blob: no file of that name, and none of another.
  fake.keep.blobs.set(sha256, text.with(5, 0));
  const other = join(directory, 'other');
  const corrupt = await baton(['blob', 'get', sha256, '-o', other]);
  expect(corrupt.exitCode).toBe(1);
  expect(corrupt.stderr).toContain('BLOB_CORRUPT');
  expect((await readdir(directory)).filter((name) => name.startsWith('other'))).toEqual([]);

  expect(await baton(['blob', 'get', 'ab'.repeat(32)])).toMatchObject({ exitCode: 3, stdout: '' });
  expect((await baton(['blob', 'get', 'nothex'])).exitCode).toBe(64);
  expect((await baton(['blob', 'get', sha256, '-o', join(directory, 'no', 'such', 'place')])).exitCode).toBe(64);
});
