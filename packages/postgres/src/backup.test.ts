import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gunzipSync, gzipSync } from 'node:zlib';
import * as tar from 'tar-stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ArchiveWriter, type BackupManifest, MANIFEST_NAME } from './archive.ts';
import { type BackupSummary, backupPostgres, readBackupManifest } from './backup.ts';
import { query, type TestHome, testHome } from './cluster.fixture.ts';
import { inspectPostgres } from './inspect.ts';
import { replacedName } from './location.ts';
import { restorePostgres } from './restore.ts';
import { type EmbeddedPostgres, startPostgres } from './start.ts';

let home: TestHome;
let server: EmbeddedPostgres;
let hot: BackupSummary;
/** Rows acknowledged before the backup began. */
let before: number;

beforeAll(async () => {
  home = await testHome();
  server = await startPostgres({ dataDir: home.dataDir() });
  await query(server.url, (sql) => sql`CREATE TABLE ledger (n bigint PRIMARY KEY, twin bigint, filler text)`);
  await query(server.url, (sql) => sql`CREATE INDEX ON ledger (twin)`);
  let written = 0;
  let stopped = false;
  const begun = Promise.withResolvers<void>();
  const writing = query(server.url, async (sql) => {
    while (!stopped) {
      await sql`INSERT INTO ledger SELECT n, n, repeat('x', 100) FROM generate_series(${written + 1}::int, ${written + 200}::int) n`;
      await sql`UPDATE ledger SET filler = 'again' WHERE n > ${written}`;
      written += 200;
      // Moves the redo point, so that WAL which the backup needs would be recycled if nothing kept it.
      if (written % 6000 === 0) await sql`SELECT pg_switch_wal()`;
      if (written % 6000 === 0) await sql`CHECKPOINT`;
      if (written === 2000) begun.resolve();
    }
  });
  await Promise.race([begun.promise, writing]);
  before = written;
  hot = await backupPostgres({ dataDir: home.dataDir(), file: join(home.path, 'hot.tar.gz') });
  stopped = true;
  await writing;
  expect(written).toBeGreaterThan(before);
});

afterAll(async () => {
  await home?.[Symbol.asyncDispose]();
});

test('a backup taken under load restores to a consistent server with every row acknowledged before it', async () => {
  expect(hot).toMatchObject({ mode: 'hot', postgresMajor: 18, format: 1 });
  expect((await stat(hot.file)).mode & 0o777).toBe(0o600);
  expect(await readBackupManifest(hot.file)).toMatchObject({ createdAt: hot.createdAt });
  const left = await query(server.url, (sql) => sql`SELECT count(*)::int AS n FROM pg_replication_slots`);
  expect(left).toMatchObject([{ n: 0 }]);

  const dataDir = home.dataDir('second');
  await restorePostgres({ file: hot.file, dataDir });
  const restored = await startPostgres({ dataDir });
  expect(restored.url).not.toBe(server.url); // a password of its own
  await query(restored.url, async (sql) => {
    const [row] = await sql`SELECT count(*)::int AS rows, min(n)::int AS first, max(n)::int AS last,
      count(*) FILTER (WHERE twin <> n)::int AS wrong FROM ledger`;
    expect(row?.rows).toBeGreaterThanOrEqual(before);
    expect(row).toMatchObject({ first: 1, last: row?.rows, wrong: 0 });
    await sql`CREATE EXTENSION amcheck`;
    await sql`SELECT bt_index_check(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p'`;
    expect(await sql`SELECT * FROM verify_heapam('ledger')`).toEqual([]);
    await sql`INSERT INTO ledger VALUES (0, 0, 'it takes writes')`;
  });
  await restored.stop();

  // Cold, from the stopped one; and back over data that has moved on.
  const cold = await backupPostgres({ dataDir, file: join(home.path, 'cold.tar.gz') });
  expect(cold.mode).toBe('cold');
  const again = await startPostgres({ dataDir });
  await query(again.url, (sql) => sql`DELETE FROM ledger`);
  await expect(restorePostgres({ file: cold.file, dataDir, force: true })).rejects.toMatchObject({ reason: 'RUNNING' });
  await again.stop();
  await expect(restorePostgres({ file: cold.file, dataDir })).rejects.toMatchObject({ reason: 'NOT_EMPTY' });
  await restorePostgres({ file: cold.file, dataDir, force: true });
  const last = await startPostgres({ dataDir });
  expect(last.url).toBe(restored.url);
  expect(await query(last.url, (sql) => sql`SELECT filler FROM ledger WHERE n = 0`)).toHaveLength(1);
  await last.stop();
});

test('an archive that is cut short, changed or made to escape is refused and nothing is touched', async () => {
  const small = join(home.path, 'small.tar.gz');
  const writer = new ArchiveWriter(small);
  const manifest: BackupManifest = { format: 1, postgresMajor: 18, createdAt: hot.createdAt, mode: 'cold' };
  await writer.manifest(manifest);
  await writer.directory('base');
  await writer.content('base/1', randomBytes(200_000));
  await writer.content('PG_VERSION', Buffer.from('18\n'));
  await writer.finish();
  const whole = await readFile(small);
  const tampered = gunzipSync(whole);
  tampered[100_000]! ^= 1;
  const manifestText = JSON.stringify(manifest);
  const real = await readFile(hot.file);
  const bad: Record<string, Buffer> = {
    'cut.tar.gz': whole.subarray(0, Math.floor(whole.length * 0.7)),
    'real-cut.tar.gz': real.subarray(0, Math.floor(real.length * 0.1)),
    'changed.tar.gz': gzipSync(tampered, { level: 1 }),
    'unended.tar.gz': await archive({ [MANIFEST_NAME]: manifestText, 'data/PG_VERSION': '18\n' }),
    'escaping.tar.gz': await archive({ [MANIFEST_NAME]: manifestText, 'data/../../escaped': 'out' }),
    'foreign.tar.gz': await archive({ 'readme.txt': 'hello' }),
    'letter.tar.gz': Buffer.from('dear'),
    'newer.tar.gz': await archive({ [MANIFEST_NAME]: manifestText.replace('"format":1', '"format":2') }),
  };
  const dataDir = home.dataDir('untouched');
  await mkdir(dataDir);
  await writeFile(join(dataDir, 'mine.txt'), 'still here');
  for (const [name, content] of Object.entries(bad)) {
    const file = join(home.path, name);
    await writeFile(file, content);
    await expect(restorePostgres({ file, dataDir, force: true }), name).rejects.toMatchObject({
      reason: 'BACKUP_INVALID',
    });
  }
  const missing = restorePostgres({ file: join(home.path, 'missing.tar.gz'), dataDir, force: true });
  await expect(missing).rejects.toMatchObject({ reason: 'BACKUP_INVALID' });
  const older = join(home.path, 'older.tar.gz');
  await writeFile(
    older,
    await archive({ [MANIFEST_NAME]: manifestText.replace('"postgresMajor":18', '"postgresMajor":17') }),
  );
  await expect(restorePostgres({ file: older, dataDir, force: true })).rejects.toMatchObject({
    reason: 'VERSION_MISMATCH',
  });
  expect(await readdir(dataDir)).toEqual(['mine.txt']);
  // The undamaged one would have been taken.
  expect(await restorePostgres({ file: small, dataDir: home.dataDir('small') })).toEqual(manifest);
  expect((await readdir(home.path)).filter((name) => name.includes('escaped') || name.includes('.new-'))).toEqual([]);
});

test('a failed backup leaves no file, and the older one of that name as it was', async () => {
  const file = join(home.path, 'precious.tar.gz');
  await writeFile(file, 'older');
  await expect(backupPostgres({ dataDir: home.dataDir('nothing'), file })).rejects.toMatchObject({
    reason: 'BACKUP_FAILED',
  });
  // The server is lost in the middle of it.
  const running = backupPostgres({ dataDir: home.dataDir(), file });
  await query(server.url, async (sql) => {
    for (;;) {
      const [row] = await sql`SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL`;
      if (row === undefined) continue;
      await sql`SELECT pg_terminate_backend(${row.active_pid}::int)`;
      return;
    }
  });
  await expect(running).rejects.toMatchObject({ reason: 'BACKUP_FAILED' });
  expect(await readFile(file, 'utf8')).toBe('older');
  expect((await readdir(home.path)).filter((name) => name.startsWith('.precious'))).toEqual([]);
});

test('a restore that was cut off between its two renames is undone by the next start', async () => {
  const dataDir = home.dataDir();
  await server.stop({ mode: 'immediate' });
  await rename(dataDir, replacedName(dataDir));
  expect(await inspectPostgres(dataDir)).toMatchObject({ state: 'absent' });
  const messages: string[] = [];
  const again = await startPostgres({ dataDir, log: (message) => messages.push(message) });
  expect(messages).toContain('a restore was interrupted: the data from before it is put back');
  const [row] = await query(again.url, (sql) => sql`SELECT count(*)::int AS n FROM ledger`);
  expect(row?.n).toBeGreaterThanOrEqual(before);
  await again.stop();
});

/** A gzipped tar with these files. */
async function archive(files: Record<string, string>): Promise<Buffer> {
  const pack = tar.pack();
  for (const [name, content] of Object.entries(files)) pack.entry({ name }, content);
  pack.finalize();
  return gzipSync(await buffer(pack as unknown as NodeJS.ReadableStream));
}
