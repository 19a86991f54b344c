import { on, once } from 'node:events';
import { readFileSync, watch } from 'node:fs';
import { chmod, chown, mkdir, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { canEnter } from './account.ts';
import { query, spawnStarter, type TestHome, testHome } from './cluster.fixture.ts';
import { clearStalePidFile, inspectPostgres } from './inspect.ts';
import { removePostgres } from './remove.ts';
import { startPostgres } from './start.ts';
import { stopPostgres } from './stop.ts';

const isRoot = process.getuid?.() === 0;
const nobody = { name: 'nobody', uid: 65_534, gid: 65_534 };

/** A cluster takes two seconds to make: the tests that do not care about its making share this one, one by one. */
let shared: TestHome;
beforeAll(async () => {
  shared = await testHome();
});
afterAll(() => shared[Symbol.asyncDispose]());
afterEach(() => stopPostgres(shared.dataDir(), { mode: 'immediate' }).then(() => {}));

test('a second start on the same directory finds the data, the password and the port', async () => {
  const home = shared;
  const dataDir = home.dataDir();
  expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'absent' });

  const first = await startPostgres({ dataDir });
  expect(first).toMatchObject({ adopted: false, version: expect.stringMatching(/^18\./) });
  expect((await stat(join(home.path, 'password'))).mode & 0o777).toBe(0o600);
  const settings = await query(first.url, async (sql) => {
    await sql`CREATE TABLE kept AS SELECT 7 AS n`;
    return sql`SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit,
      current_setting('listen_addresses') AS listen, current_setting('unix_socket_directories') AS sockets,
      (SELECT count(*)::int FROM pg_stat_statements) AS statements`;
  });
  expect(settings[0]).toMatchObject({ fsync: 'on', commit: 'on', listen: '127.0.0.1', sockets: '' });
  expect(settings[0]?.statements).toBeGreaterThan(0);
  const wrong = first.urlFor({ user: 'baton', password: 'guess' });
  await expect(query(wrong, (sql) => sql`SELECT 1`)).rejects.toMatchObject({ code: '28P01' });

  const exited = first.whenExited();
  await first.stop();
  await exited;
  expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'stopped', major: 18 });

  const second = await startPostgres({ dataDir });
  expect(second).toMatchObject({ adopted: false, url: first.url });
  expect(second.pid).not.toBe(first.pid);
  expect(await query(second.url, (sql) => sql`SELECT n FROM kept`)).toMatchObject([{ n: 7 }]);

  // The handle of the stopped one must not stop its successor.
  await first.stop();
  expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'running', pid: second.pid });

  // With the password file lost, whoever owns the files gets a new password.
  await second.stop({ mode: 'immediate' });
  await rm(join(home.path, 'password'));
  const third = await startPostgres({ dataDir });
  expect(third.url).not.toBe(first.url);
  expect(await query(third.url, (sql) => sql`SELECT n FROM kept`)).toMatchObject([{ n: 7 }]);
});

test('the server survives kill -9 of the process that started it, and the next start joins it', async () => {
  const dataDir = shared.dataDir();
  const starter = spawnStarter(dataDir);
  const line = await starter.line;
  await query(line.url, (sql) => sql`CREATE TABLE survivors AS SELECT generate_series(1, 100) AS n`);
  await starter.kill();

  const joined = await startPostgres({ dataDir });
  expect(joined).toMatchObject({ adopted: true, pid: line.pid, port: line.port, url: line.url });
  const [row] = await query(joined.url, (sql) => sql`SELECT count(*)::int AS n FROM survivors`);
  expect(row?.n).toBe(100);
  expect(await clearStalePidFile(dataDir)).toBe(false);
  expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'running', status: 'ready', pid: line.pid });

  const exited = joined.whenExited();
  await joined.stop({ mode: 'smart' });
  await exited;
});

test('after kill -9 of PostgreSQL everything acknowledged is there; a stale pid file is seen and handled', async () => {
  const dataDir = shared.dataDir();
  const first = await startPostgres({ dataDir });
  await query(first.url, (sql) => sql`CREATE TABLE acknowledged AS SELECT generate_series(1, 5000) AS n`);
  const exited = first.whenExited();
  process.kill(first.pid, 'SIGKILL');
  await exited;
  expect(await inspectPostgres(dataDir)).toMatchObject({
    state: 'stale_pid_file',
    cause: 'dead',
    pid: first.pid,
    port: first.port,
  });

  const second = await startPostgres({ dataDir });
  expect(second).toMatchObject({ adopted: false, port: first.port });
  const count = (url: string) => query(url, (sql) => sql`SELECT count(*)::int AS n FROM acknowledged`);
  expect(await count(second.url)).toMatchObject([{ n: 5000 }]);

  // The pid went to another program (here: this test) before the next start.
  const pidFile = join(dataDir, 'postmaster.pid');
  const text = await readFile(pidFile, 'utf8');
  await second.stop({ mode: 'immediate' });
  const owner = await stat(dataDir);
  await writeFile(pidFile, text.replace(/^\d+/, String(process.pid)));
  await chown(pidFile, owner.uid, owner.gid);
  const found = await inspectPostgres(dataDir);
  expect(found).toMatchObject({ state: 'stale_pid_file', cause: 'other_program', pid: process.pid });
  expect(found).toHaveProperty('program', expect.stringContaining('node'));
  const third = await startPostgres({ dataDir });
  expect(await count(third.url)).toMatchObject([{ n: 5000 }]);

  await third.stop({ mode: 'immediate' });
  await writeFile(pidFile, text);
  expect(await clearStalePidFile(dataDir)).toBe(true);
  expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'stopped' });
});

test('of many starts at once one starts the server and the others join, even where one was killed in initdb', async () => {
  await using home = await testHome();
  const dataDir = home.dataDir();
  const killed = spawnStarter(dataDir);
  const watcher = watch(home.path);
  for await (const [, name] of on(watcher, 'change')) if (String(name).startsWith('data.new-')) break;
  watcher.close();
  await killed.kill();
  expect((await readdir(home.path)).some((name) => name.startsWith('data.new-'))).toBe(true);

  const starters = [spawnStarter(dataDir), spawnStarter(dataDir)];
  try {
    const here = [1, 2, 3].map(() => startPostgres({ dataDir }));
    const all = await Promise.all([...starters.map(({ line }) => line), ...here]);
    expect(all.filter(({ adopted }) => !adopted)).toHaveLength(1);
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
    expect(new Set(all.map(({ url }) => url)).size).toBe(1);
    const [row] = await query(all[0]!.url, (sql) => sql`SELECT current_database() AS name`);
    expect(row?.name).toBe('baton');
    expect((await readdir(home.path)).filter((name) => name.includes('.new-'))).toEqual([]);
  } finally {
    await Promise.all(starters.map(({ kill }) => kill()));
  }
});

test('refuses, saying which: a taken port, a directory of something else, data of another version', async () => {
  await using home = await testHome();
  const other = home.dataDir('other');
  await mkdir(other);
  await writeFile(join(other, 'letter.txt'), 'dear');
  await expect(startPostgres({ dataDir: other })).rejects.toMatchObject({ reason: 'NOT_A_DATA_DIRECTORY' });
  expect(await readdir(other)).toEqual(['letter.txt']);

  const old = home.dataDir('old');
  await mkdir(old);
  await writeFile(join(old, 'PG_VERSION'), '17\n');
  await expect(startPostgres({ dataDir: old })).rejects.toMatchObject({ reason: 'VERSION_MISMATCH' });

  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  try {
    const dataDir = shared.dataDir();
    await expect(startPostgres({ dataDir, port })).rejects.toMatchObject({
      reason: 'PORT_TAKEN',
      message: expect.stringContaining(String(port)),
    });
    expect((await startPostgres({ dataDir, port: 0 })).port).not.toBe(port);
  } finally {
    listener.close();
  }
});

test.skipIf(!isRoot || !canEnter(nobody, import.meta.dirname))('runs without root', async () => {
  await using home = await testHome();
  await chmod(home.path, 0o777);
  const parent = join(home.path, 'own');
  const starter = spawnStarter(join(parent, 'data'), { ...nobody, stop: true });
  try {
    expect(await starter.line).toMatchObject({ adopted: false });
  } finally {
    await starter.kill();
  }
  expect((await stat(join(parent, 'data', 'PG_VERSION'))).uid).toBe(nobody.uid);
  // What an ordinary user made, root runs as that user.
  const dataDir = home.dataDir('own/data');
  const server = await startPostgres({ dataDir });
  expect(ownerOf(server.pid)).toBe(nobody.uid);
  await server.stop();
});

test.skipIf(!isRoot)(
  'below a directory that shuts the server out, data goes elsewhere and a link is left',
  async () => {
    await using home = await testHome();
    const closed = join(home.path, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const dataDir = home.dataDir('closed/postgres/data');
    const fallbackRoots = [join(home.path, 'fallback')];
    const lines: string[] = [];
    const log = (message: string) => lines.push(message);
    const server = await startPostgres({ dataDir, fallbackRoots, log });
    expect(lines).toContain('the server cannot enter the data directory: its data is kept elsewhere');
    expect(await readlink(dataDir)).toBe(server.dataDir);
    expect(server.dataDir.startsWith(fallbackRoots[0]!)).toBe(true);
    expect(ownerOf(server.pid)).not.toBe(0);
    await query(server.url, (sql) => sql`CREATE TABLE kept AS SELECT 7 AS n`);
    expect(await startPostgres({ dataDir, fallbackRoots })).toMatchObject({ adopted: true, pid: server.pid });
    await server.stop();

    const again = await startPostgres({ dataDir, fallbackRoots });
    expect(again.dataDir).toBe(server.dataDir);
    expect(await query(again.url, (sql) => sql`SELECT n FROM kept`)).toMatchObject([{ n: 7 }]);
    await expect(removePostgres(dataDir)).rejects.toMatchObject({ reason: 'RUNNING' });
    await again.stop({ mode: 'immediate' });
    await removePostgres(dataDir);
    expect((await readdir(fallbackRoots[0]!)).filter((name) => name.startsWith('data-'))).toEqual([]);
    expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'absent' });
  },
);

function ownerOf(pid: number): number {
  return Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
