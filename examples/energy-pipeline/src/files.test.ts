import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkOutput, MAX_INPUT_BYTES, readInput, writeAtomically } from './files.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'energy-files-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test('makes parent directories, replaces what was there, and leaves no temporary file', async () => {
  const path = join(directory, 'a/b/out.csv');
  await writeAtomically(path, 'first');
  await writeAtomically(path, 'second');
  expect(await readFile(path, 'utf8')).toBe('second');
  expect(await readdir(join(directory, 'a/b'))).toEqual(['out.csv']);
});

test('many writers of one file at once leave one whole text', async () => {
  const path = join(directory, 'out');
  const texts = Array.from({ length: 8 }, (_, i) => String(i).repeat(100_000));
  await Promise.all(texts.map((text) => writeAtomically(path, text)));
  expect(texts).toContain(await readFile(path, 'utf8'));
  expect(await readdir(directory)).toEqual(['out']);
});

test('a write that cannot be names the file and the reason, and leaves nothing behind', async () => {
  await writeFile(join(directory, 'file'), '');
  const under = join(directory, 'file/out.csv');
  await expect(writeAtomically(under, 'x')).rejects.toThrow(
    `cannot write output file "${under}": a part of its path is a file, not a directory`,
  );
  const taken = join(directory, 'taken');
  await mkdir(taken);
  await expect(writeAtomically(taken, 'x')).rejects.toThrow(`cannot write output file "${taken}": it is a directory`);
  expect((await readdir(directory)).sort()).toEqual(['file', 'taken']);
});

test('a read that cannot be names the file and the reason', async () => {
  const missing = join(directory, 'missing.csv');
  await expect(readInput(missing)).rejects.toThrow(`cannot read input file "${missing}": no such file`);
  await expect(readInput(directory)).rejects.toThrow(`cannot read input file "${directory}": it is a directory`);
  await expect(readInput('')).rejects.toThrow('input_file is empty');
  await expect(readInput('a\0b')).rejects.toThrow('cannot read input file');
  const binary = join(directory, 'binary');
  await writeFile(binary, Buffer.from([0xff, 0xfe, 0x00]));
  await expect(readInput(binary)).rejects.toThrow(`input file "${binary}" is not UTF-8 text`);
});

test('refuses a file over the limit without reading it', async () => {
  const path = join(directory, 'large');
  const { truncate } = await import('node:fs/promises');
  await writeFile(path, '');
  await truncate(path, MAX_INPUT_BYTES + 1);
  await expect(readInput(path)).rejects.toThrow(`has ${MAX_INPUT_BYTES + 1} bytes; the limit is ${MAX_INPUT_BYTES}`);
});

test('refuses to overwrite the input, by whatever name', () => {
  expect(() => checkOutput('data/in.csv', ['./data/../data/in.csv'])).toThrow('is the input file');
  expect(() => checkOutput('', [''])).toThrow('output_file is empty');
  expect(() => checkOutput('', ['out'])).not.toThrow();
});
