import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { migrate, openSql } from '@baton/store';
import { loadMigrations } from '@baton/store/node';
import { makePast } from '@baton/store/testing';
import { testDatabase } from '@baton/testkit';
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

test('retention says what it would drop, then drops it, then finds nothing', { timeout: 60_000 }, async () => {
  await using database = await testDatabase();
  const sql = openSql(database.url, { max: 1 });
  await migrate(sql, loadMigrations());
  await makePast(sql, 6);
  await sql.end();
  const { baton, log } = await commandLine();
  const env = { DATABASE_URL: database.url };
  const dry = await baton(['db', 'retention', '--dry-run'], { env });
  expect(dry).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/\ntasks_\d{4}w\d\d +\S+ \S+ +\d+\.\d MB +would be dropped\n/),
  });
  const lines = dry.stdout.trim().split('\n').length - 1;
  const done = JSON.parse((await baton(['db', 'retention', '-o', 'json'], { env })).stdout);
  expect(done).toMatchObject({ historyDays: 30, partitions: Array(lines).fill({ fate: 'dropped' }), tasksKept: 0 });
  expect(await baton(['db', 'retention'], { env })).toMatchObject({
    stdout: '',
    stderr: expect.stringContaining('0 partitions'),
  });
  const week = JSON.parse((await baton(['db', 'retention', '--days', '1', '-o', 'json'], { env })).stdout);
  expect(week.partitions.length).toBeGreaterThan(0);
  expect(await log()).toEqual(
    expect.arrayContaining([expect.objectContaining({ command: 'db retention', partitions: lines })]),
  );
});

test('retention refuses a history of less than a day', async () => {
  const { baton } = await commandLine();
  expect((await baton(['db', 'retention', '--days', '0'])).exitCode).toBe(64);
  const { exitCode, stderr } = await baton(['db', 'retention'], {
    env: { BATON_HISTORY_DAYS: '0', DATABASE_URL: 'postgres://x/y' },
  });
  expect(exitCode).toBe(64);
  expect(stderr).toContain('BATON_HISTORY_DAYS');
});

test.each([['retention'], ['backup x.tar.gz'], ['restore x.tar.gz']])(
  'db %s asks no master, and says so to who names one',
  async (words) => {
    const { baton } = await commandLine();
    const { exitCode, stderr } = await baton(['db', ...words.split(' '), '--url', 'http://127.0.0.1:7800']);
    expect(exitCode).toBe(64);
    expect(stderr).toContain('DATABASE_URL');
    expect(stderr).not.toContain('did you mean');
  },
);
