import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createBaton } from '@baton/client';
import { inspectPostgres } from '@baton/postgres';
import { expect, onTestFinished, test } from 'vitest';
import { Home, ROOT, type Running, until } from './process.ts';

const TASKS = join(ROOT, 'apps/cli/src/demo/tasks.ts');

interface Addresses {
  readonly url: string;
  readonly pid: number;
  readonly workers: readonly { readonly name: string; readonly pid: number }[];
  readonly postgres: { readonly psqlUrl: string; readonly adopted: boolean; readonly pid: number };
}

async function addressesOf(up: Running): Promise<Addresses> {
  await up.says(/v_runs/);
  return JSON.parse(up.stdout) as Addresses;
}

test('up brings everything up, keeps it alive, and leaves no process behind', { timeout: 120_000 }, async () => {
  const home = new Home();
  const up = home.baton('up', '--tasks', TASKS, '-o', 'json');
  const { url, workers, postgres } = await addressesOf(up);
  const baton = createBaton({ url });
  expect(await (await baton.submit({ kind: 'hello', input: { name: 'Ada' } })).result()).toBe('Hello, Ada!');

  // What it says about itself is for us alone, for it holds a password.
  const file = join(home.home, 'up.json');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(join(home.home, 'postgres', 'reader-password')).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ pid: up.pid, url });
  expect(JSON.parse((await home.baton('status', '-o', 'json').ends()).stdout)).toMatchObject({
    supervisor: { state: 'running', pid: up.pid },
    postgres: { state: 'ready', pid: postgres.pid },
    master: { state: 'serving', url },
    workers: [{ name: 'worker-1' }, { name: 'worker-2' }],
  });

  // One supervisor for a home.
  const second = await home.baton('up').ends(1);
  expect(second.stderr).toContain(`at ${url} (pid ${up.pid})`);
  expect(second.stderr).toContain('baton stop');

  // What dies is started again, with the address that everybody knows.
  process.kill(workers[0]!.pid, 'SIGKILL');
  const sessions = () => baton.workers.list().all();
  await until(
    async () =>
      (await sessions()).some(
        ({ name, pid, state }) => name === 'worker-1' && pid !== workers[0]!.pid && state === 'idle',
      ),
    30_000,
    async () => JSON.stringify(await sessions()),
  );
  const master = JSON.parse(readFileSync(file, 'utf8')).children[0];
  expect(master.name).toBe('master');
  process.kill(master.pid, 'SIGKILL');
  expect(
    await (
      await baton.submit({ kind: 'sum', input: [1, 2], idempotencyKey: 'k' }).catch(async () => {
        await up.says(/master was killed by SIGKILL/);
        await until(
          () =>
            baton.system.info().then(
              () => true,
              () => false,
            ),
          30_000,
          () => up.text,
        );
        return baton.submit({ kind: 'sum', input: [1, 2], idempotencyKey: 'k' });
      })
    ).result(),
  ).toBe(3);

  up.interrupt();
  await up.ends(0);
  await home.untilNothingRuns();
  expect(() => statSync(file)).toThrow('ENOENT');
});

test('a supervisor that was killed takes its children with it; the next one finds the data', {
  timeout: 120_000,
}, async () => {
  const home = new Home();
  const first = home.baton('up', '--workers', '1', '--tasks', TASKS, '-o', 'json');
  const before = await addressesOf(first);
  const { id } = await createBaton({ url: before.url }).submit({ kind: 'hello' });
  process.kill(first.pid, 'SIGKILL');
  await first.ended;
  await until(
    async () => (await home.processes()).every((pid) => pid === before.postgres.pid),
    10_000,
    async () => (await home.processes()).join(' '),
  );

  const { stdout } = await home.baton('doctor', '-o', 'json').ends(1);
  const problems = (JSON.parse(stdout) as { check: string; level: string; fix?: string }[]).filter(
    ({ level }) => level === 'problem',
  );
  expect(problems.map(({ check }) => check)).toEqual(['up.json', 'postgres', 'master']);
  for (const { fix } of problems) expect(fix).toContain('baton');

  // It went in order: nothing was thrown on the way, and the worker had the master to leave.
  const workerLog = readFileSync(join(home.directory, 'logs', 'worker-worker-1.jsonl'), 'utf8');
  expect(workerLog).not.toContain('"level":"error"');
  expect(workerLog).toContain('left the master');

  // Postgres outlived it, and is joined.
  const second = home.baton('up', '--workers', '1', '--tasks', TASKS, '-o', 'json');
  const after = await addressesOf(second);
  expect(after.postgres).toMatchObject({ pid: before.postgres.pid, adopted: true });
  expect(await createBaton({ url: after.url }).tasks.handle(id).result()).toBe('Hello, you!');

  expect((await home.baton('stop').ends()).stdout).toContain('is stopped');
  await second.ends(0);
  await home.untilNothingRuns();
  expect((await home.baton('stop').ends()).stdout).toContain('nothing runs');
});

test('stop ends what a supervisor left behind', { timeout: 60_000 }, async () => {
  const home = new Home();
  const up = home.baton('up', '--workers', '0', '-o', 'json');
  await addressesOf(up);
  process.kill(up.pid, 'SIGKILL');
  await up.ended;
  expect((await home.baton('stop', '-o', 'json').ends()).stdout).toContain('"postgres": true');
  await home.untilNothingRuns();
});

test('a port that is taken is told with its owner, and nothing is left running', { timeout: 60_000 }, async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as { port: number };
  const home = new Home({ BATON_PORT: String(port) });
  const start = await home.run('npm', ['start', '--', '--out', home.outputs]).ends(1);
  expect(start.stderr).toContain(`port ${port} on 127.0.0.1 is taken by pid ${process.pid}`);
  expect(start.stderr).toContain('BATON_PORT=0 npm start');
  expect(start.stderr).toContain('baton stop');
  await home.untilNothingRuns();
});

test('Ctrl-C while everything comes up leaves nothing either', { timeout: 60_000 }, async () => {
  const home = new Home();
  const up = home.baton('up');
  const dataDir = join(home.home, 'postgres', 'data');
  await until(
    async () => (await inspectPostgres(dataDir)).state !== 'absent',
    30_000,
    () => up.text,
  );
  up.interrupt();
  await up.ends(0);
  await home.untilNothingRuns();
});

test('tasks that cannot be loaded are told, and nothing is left running', { timeout: 60_000 }, async () => {
  const home = new Home();
  const file = join(home.directory, 'broken.mjs');
  writeFileSync(file, 'export const nothing = 1;\n');
  const up = await home.baton('up', '--tasks', file).ends(1);
  expect(up.stderr).toContain('exports no task');
  expect(up.stderr).not.toContain('    at ');
  await home.untilNothingRuns();
});
