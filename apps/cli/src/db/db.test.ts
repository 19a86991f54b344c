import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

test.each([[['db', 'backup', 'x.tar.gz']], [['db', 'restore', 'x.tar.gz']]])(
  'with DATABASE_URL there is no embedded Postgres to work on: %j',
  async (args) => {
    const { baton } = await commandLine();
    const { exitCode, stderr } = await baton(args, { env: { DATABASE_URL: 'postgres://db/baton' } });
    expect(exitCode).toBe(64);
    expect(stderr).toContain('pg_dump');
  },
);

test('a backup of nothing fails, saying so, and leaves no file', async () => {
  const { baton, directory } = await commandLine();
  const { exitCode, stdout, stderr } = await baton(['db', 'backup', join(directory, 'x.tar.gz')]);
  expect(exitCode).not.toBe(0);
  expect(stdout).toBe('');
  expect(stderr).toContain(join(directory, 'home', 'postgres', 'data'));
  expect(stderr).not.toContain('    at ');
});

test('a restore of what is no backup fails, with its reason', async () => {
  const { baton, directory } = await commandLine();
  const file = join(directory, 'x.tar.gz');
  await writeFile(file, 'no archive');
  const { exitCode, stderr } = await baton(['db', 'restore', file]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('(BACKUP_INVALID)');
  expect(stderr).not.toContain('    at ');
});
