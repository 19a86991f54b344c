import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { startStandalone } from '@baton/cli/standalone';
import { createBaton } from '@baton/client';
import { inspectPostgres, startPostgres } from '@baton/postgres';
import { testDatabase } from '@baton/testkit';
import postgres from 'postgres';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { total } from './tasks.ts';

const bin = fileURLToPath(new URL('./bin.ts', import.meta.resolve('@baton/cli')));
const tasksModule = fileURLToPath(new URL('./tasks.ts', import.meta.url));

const PIPELINE = {
  name: 'sums',
  nodes: {
    generate: { task: 'generate', input: { count: { $input: ['count'] } } },
    total: {
      task: 'total',
      needs: ['generate'],
      input: { numbers: { $from: 'generate', path: ['numbers'] }, after: { $input: ['after'] } },
    },
  },
};

let folder: string;
let file: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'baton-alone-'));
  file = join(folder, 'sums.json');
  await writeFile(file, JSON.stringify(PIPELINE));
  return () => rm(folder, { recursive: true, force: true });
});

/** `baton run start sums.json --standalone` in a directory of its own. */
const start = (home: string, ...words: string[]) => startWorkflow(file, home, ...words);

function startWorkflow(workflow: string, home: string, ...words: string[]) {
  const args = [bin, 'run', 'start', workflow, '--standalone', '--tasks', tasksModule, ...words];
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const env = { PATH, HOME, NODE_COMPILE_CACHE, BATON_HOME: join(folder, home), LOG_DIR: join(folder, 'logs') };
  const child = spawn(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)]).then(
    ([[code], stdout, stderr]) => ({ code: code as number | null, stdout, stderr }),
  );
  return { child, ended };
}

test('a task is done by a master and a worker of this very process', { timeout: 60_000 }, async () => {
  await using database = await testDatabase();
  await using standalone = await startStandalone({ tasks: [total], databaseUrl: database.url });
  const handle = await standalone.baton.enqueue(total, { numbers: [1, 2, 3] });
  expect(await handle.result()).toBe(6);
  const names: string[] = [];
  for await (const worker of standalone.baton.workers.list()) names.push(worker.name);
  expect(names).toEqual([`standalone-${process.pid}`]);
});

test('a run that is interrupted goes on in the next process, and nothing is left running', {
  timeout: 120_000,
}, async () => {
  const after = join(folder, 'go');
  const words = ['--input', 'count=5', '--input', `after=${after}`, '--key', 'once', '-o', 'json'];
  const first = start('home', ...words);
  let seen = '';
  // The first node is done, the second one waits.
  await new Promise<void>((resolve) => {
    first.child.stdout.on('data', (data: Buffer) => {
      seen += data.toString();
      if (/"nodeId":"total","state":"running"/.test(seen.split('\n').at(-2) ?? '')) resolve();
    });
  });
  first.child.kill('SIGINT');
  const interrupted = await first.ended;
  expect(interrupted.code, interrupted.stderr).toBe(1);
  expect(interrupted.stderr).toContain('the run goes on in the next process of this home');

  await writeFile(after, '');
  const second = await start('home', ...words).ended;
  expect(second.code, second.stderr).toBe(0);
  const [before, run] = [interrupted.stdout, second.stdout].map((out) => JSON.parse(out.trim().split('\n').at(-1)!));
  expect(run).toMatchObject({ id: before.id, state: 'succeeded' });
  expect(run.nodes.map((node: { attempts: number; output: unknown }) => [node.attempts, node.output])).toEqual([
    [1, { numbers: [0, 1, 2, 3, 4] }],
    [1, 10],
  ]);
  // Its Postgres is gone with it: another one may begin in the same place.
  const third = await start('home', '--input', 'count=2', '--input', `after=${after}`).ended;
  expect(third.code, third.stderr).toBe(0);
});

const lines = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : []);
const lastOf = (stdout: string) => JSON.parse(stdout.trim().split('\n').at(-1)!);
const postgresIn = async (home: string) => (await inspectPostgres(join(folder, home, 'postgres', 'data'))).state;

test('a durable function sleeps, waits, and is sent signals; it ends with 0, or with 1 and why', {
  timeout: 120_000,
}, async () => {
  const effects = join(folder, 'effects.txt');
  const waiting = startWorkflow('trip', 'functions', '--input-json', JSON.stringify({ effects, signal: true }));
  let said = '';
  const url = await new Promise<string>((resolve, reject) => {
    waiting.child.stderr.on('data', (data: Buffer) => {
      said += data.toString();
      const found = /run signal\|get\|cancel \d+ --url (\S+)/.exec(said)?.[1];
      if (found) resolve(found);
    });
    void waiting.ended.then(({ stderr }) => reject(new Error(stderr)));
  });
  const runId = /run (\d+) started/.exec(said)![1]!;
  await createBaton({ url }).runs.handle(runId).signal('go', 'now');
  const ended = await waiting.ended;
  expect(ended.code, ended.stderr).toBe(0);
  expect(lines(effects)).toEqual([`book ${runId}/1`, `travel ${runId}/6`]);

  const input = JSON.stringify({ effects: join(folder, 'failing.txt'), fails: true });
  const failed = await startWorkflow('trip', 'functions', '--input-json', input, '-o', 'json').ended;
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain('the train is late');
  expect(lastOf(failed.stdout)).toMatchObject({ state: 'failed' });
  expect(await postgresIn('functions')).not.toBe('running');
});

test('a run whose process is killed goes on in the next one, at once, behind its last step; nothing is left running', {
  timeout: 120_000,
}, async () => {
  const effects = join(folder, 'killed.txt');
  const after = join(folder, 'killed-go');
  const words = ['--input-json', JSON.stringify({ effects, after }), '--key', 'trip', '-o', 'json'];
  const first = startWorkflow('trip', 'killed', ...words);
  await expect.poll(() => lines(effects).length, { timeout: 60_000, interval: 50 }).toBe(2);
  first.child.kill('SIGKILL');
  const killed = await first.ended;
  const { id } = lastOf(killed.stdout);
  // As for every process that is killed, its Postgres stays, with all that was stored.
  expect(await postgresIn('killed')).toBe('running');

  await writeFile(after, '');
  const second = await startWorkflow('trip', 'killed', ...words).ended;
  expect(second.code, second.stderr).toBe(0);
  expect(lastOf(second.stdout)).toMatchObject({
    id,
    state: 'succeeded',
    output: { book: 'booked', sum: 3, late: true },
  });
  expect(lines(effects)).toEqual([`book ${id}/1`, `travel ${id}/5`, `travel ${id}/5`]);
  expect(await postgresIn('killed')).not.toBe('running');

  // The dead one's lease was not waited for.
  const server = await startPostgres({ dataDir: join(folder, 'killed', 'postgres', 'data'), port: 0 });
  onTestFinished(() => server.stop({ mode: 'immediate' }));
  const sql = postgres(server.url, { max: 1 });
  const lost = await sql`select failure ->> 'message' as why from baton.attempts where state = 'lost'`;
  await sql.end();
  expect(lost.map(({ why }) => why)).toEqual([expect.stringContaining('its process is gone')]);
});

test.each([
  [['--url', 'http://127.0.0.1:1'], '--standalone needs no server'],
  [['--tasks', 'nowhere.ts'], 'nowhere.ts'],
])('%j is refused, saying why', async (words, message) => {
  const { code, stderr } = await start('refused', ...words).ended;
  expect(code).not.toBe(0);
  expect(stderr).toContain(message);
});
