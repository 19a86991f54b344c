import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { openSql, type Sql } from '@baton/store';
import { type Child, type ChildOptions, launchChild, testDatabase } from '@baton/testkit';
import { expect, onTestFailed, onTestFinished, test } from 'vitest';
import { NoHistory, type PreviousVersion, previousVersion } from './previous-version.ts';

const TASKS = fileURLToPath(new URL('./tasks.ts', import.meta.url));

/** Processes of two versions on one database. */
interface Mixture {
  master(name: string, previous: boolean, port?: string): Child;
  worker(name: string, previous: boolean, master: Child): Child;
  stop(): Promise<void>;
}

async function mixture(databaseUrl: string, previous: PreviousVersion): Promise<Mixture> {
  const home = await mkdtemp(join(tmpdir(), 'baton-versions-'));
  const children: Child[] = [];
  onTestFailed(() => {
    for (const child of children) process.stderr.write(`==== ${child.name}\n${child.log}\n`);
  });
  // A task belongs to the packages beside it.
  const tasksOfPrevious = join(previous.root, 'tasks.ts');
  await copyFile(TASKS, tasksOfPrevious);
  const launch = (options: Omit<ChildOptions, 'cwd'>) => {
    const child = launchChild({ ...options, cwd: home });
    children.push(child);
    return child;
  };
  const main = (app: 'master' | 'worker', isPrevious: boolean) =>
    isPrevious ? previous.main(app) : fileURLToPath(import.meta.resolve(`@baton/${app}/main`));
  const surroundings = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    BATON_LEASE_TTL_MS: '3000',
    BATON_HEARTBEAT_MS: '500',
    BATON_SWEEP_MS: '100',
  };
  return {
    master: (name, isPrevious, port = '0') =>
      launch({
        name,
        main: main('master', isPrevious),
        portVariable: 'BATON_PORT',
        env: { ...surroundings, LOG_DIR: join(home, name), BATON_PORT: port, DATABASE_URL: databaseUrl },
      }),
    worker: (name, isPrevious, master) =>
      launch({
        name,
        main: main('worker', isPrevious),
        portVariable: 'BATON_WORKER_PORT',
        env: {
          ...surroundings,
          LOG_DIR: join(home, name),
          BATON_URL: master.url,
          BATON_WORKER_NAME: name,
          BATON_WORKER_PORT: '0',
          BATON_WORKER_SLOTS: '4',
          BATON_WORKER_TASKS: isPrevious ? tasksOfPrevious : TASKS,
        },
      }),
    async stop() {
      await Promise.all(children.filter((child) => child.running).map((child) => child.kill()));
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** What the history says that must not be, by SQL. */
async function findings(sql: Sql): Promise<Record<string, unknown>[]> {
  return [
    ...(await sql.unsafe(
      `select 'not ended once' as what, t.id::text, (select count(*)::integer from baton.outcomes o where o.task_id = t.id) as n
       from baton.tasks t where (select count(*) from baton.outcomes o where o.task_id = t.id) <> 1`,
    )),
    ...(await sql.unsafe(
      `select 'is left in ' || place as what, task_id::text as id from (
         select 'ready' as place, task_id from baton.ready union all select 'waiting', task_id from baton.waiting union all select 'leases', task_id from baton.leases) x`,
    )),
    ...(await sql.unsafe(
      `select 'ended more than once by its events' as what, e.task_id::text as id, count(*)::integer as n
       from (select unnest(types) as type, unnest(task_ids) as task_id from baton.events) e
       where e.type in (5, 6, 7) group by e.task_id having count(*) <> 1`,
    )),
    ...(await sql.unsafe(
      `select 'attempts with a gap' as what, a.task_id::text as id, array_agg(a.epoch order by a.epoch)::text as epochs
       from baton.attempts a group by a.task_id having max(a.epoch) <> count(*) or min(a.epoch) <> 1`,
    )),
    ...(await sql.unsafe(
      `select 'granted before the attempt before it ended' as what, b.task_id::text as id from baton.attempts a
       join baton.attempts b on b.task_id = a.task_id and b.epoch = a.epoch + 1 where b.granted_at < a.ended_at`,
    )),
    ...(await sql.unsafe(
      `select 'an end that is not of its last attempt' as what, o.task_id::text as id from baton.outcomes o
       where o.state = 'succeeded' and not exists (
         select from baton.attempts a where a.task_id = o.task_id and a.epoch = o.epoch and a.state = 'succeeded')`,
    )),
  ];
}

test('masters and workers of this version and of the one before work side by side on one database', {
  timeout: 60_000,
}, async ({ skip }) => {
  let previous: PreviousVersion;
  try {
    previous = await previousVersion();
  } catch (error) {
    if (!(error instanceof NoHistory)) throw error;
    console.warn(`versions side by side: NOT RUN, ${error.message}`);
    return skip(error.message);
  }
  const database = await testDatabase();
  const sql = openSql(database.url, { max: 2 });
  const all = await mixture(database.url, previous);
  onTestFinished(async () => {
    await all.stop();
    await sql.end({ timeout: 5 });
    await database.drop();
    await previous[Symbol.asyncDispose]();
  });
  const schema = async () =>
    (await sql.unsafe('select max(version) as version from public.baton_migrations'))[0]!.version;

  // The old installation, at work.
  const old = all.master('old', true);
  await old.serving;
  const oldWorker = all.worker('old worker', true, old);
  const client = { old: createBaton({ url: old.url }), new: createBaton({ url: old.url }) };
  const ids: string[] = [];
  const submit = async (at: 'old' | 'new', kind: 'work' | 'flaky', input: { n: number; ms?: number }, more = {}) => {
    const { id } = await client[at].submit({ kind, input, ...more });
    ids.push(id);
    return id;
  };
  let n = 0;
  for (; n < 60; n++) await submit('old', n % 5 ? 'work' : 'flaky', { n, ms: n % 7 ? 1 : 80 });
  expect(await schema()).toBe(previous.schema);

  // The new master migrates beside it, under load.
  const young = all.master('young', false);
  const more = (async () => {
    for (; n < 160; n++) await submit('old', n % 5 ? 'work' : 'flaky', { n, ms: n % 7 ? 1 : 80 });
  })();
  await young.serving;
  expect(await schema()).toBeGreaterThan(previous.schema);
  await Promise.all([more, oldWorker.serving]);
  client.new = createBaton({ url: young.url });

  // Workers of both at masters of both.
  const workers = {
    youngAtYoung: all.worker('young at young', false, young),
    youngAtOld: all.worker('young at old', false, old),
    oldAtYoung: all.worker('old at young', true, young),
  };
  await Promise.all(Object.values(workers).map((worker) => worker.serving));
  const registered = await sql.unsafe(
    `select name, coalesce((capabilities ->> 'protocolVersion')::integer, 1) as protocol from baton.workers order by name`,
  );
  expect(registered.map((r) => [r.name, r.protocol])).toEqual([
    ['old at young', 1],
    ['old worker', 1],
    ['young at old', 1],
    ['young at young', 4],
  ]);

  // What the version before would pass over goes to who knows it, and to nobody else.
  const watched = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      submit('new', 'work', { n: 10_000 + i, ms: 20 }, { progressTimeoutMs: 20_000 }),
    ),
  );
  // One key at both masters is one task.
  const twice = await Promise.all(
    (['old', 'new', 'old', 'new'] as const).map((at) =>
      client[at].submit({ kind: 'work', input: { n: 7 }, idempotencyKey: 'once' }),
    ),
  );
  expect(new Set(twice.map((t) => t.id)).size).toBe(1);
  ids.push(twice[0]!.id);

  // Cancels and kills while more comes in by both.
  const long = await Promise.all((['old', 'new'] as const).map((at) => submit(at, 'work', { n: 0, ms: 60_000 })));
  const waiting = await Promise.all(
    (['old', 'new'] as const).map((at) => submit(at, 'work', { n: 0 }, { runAt: new Date(Date.now() + 3_600_000) })),
  );
  const load = (async () => {
    for (let i = 0; i < 200; i++)
      await submit(i % 2 ? 'old' : 'new', i % 5 ? 'work' : 'flaky', { n: i, ms: i % 9 ? 2 : 150 });
  })();
  await oldWorker.kill();
  await workers.youngAtYoung.kill();
  for (const worker of [oldWorker, workers.youngAtYoung]) worker.relaunch();
  await load;
  // Each cancelled through the other's master.
  expect(await client.new.tasks.cancel(waiting[0]!)).toBe('cancelled');
  expect(await client.old.tasks.cancel(waiting[1]!)).toBe('cancelled');
  await client.new.tasks.cancel(long[0]!, 'over');
  await client.old.tasks.cancel(long[1]!, 'over');

  // The old master dies. It does not start again on the new schema, and a new one takes its place and its workers.
  await old.kill();
  old.relaunch({ samePort: false });
  const successor = all.master('successor', false, new URL(old.url).port);
  expect((await old.exited).code).not.toBe(0);
  expect(old.log).toContain('start a newer Baton');
  await successor.serving;

  await expect
    .poll(
      async () =>
        (await sql.unsafe('select (select count(*) from baton.tasks) - (select count(*) from baton.outcomes) as n'))[0]!
          .n,
      { timeout: 30_000 },
    )
    .toBe('0');
  expect(await findings(sql)).toEqual([]);
  const stored = await sql.unsafe('select id::text as id from baton.tasks');
  expect(new Set(stored.map((r) => r.id))).toEqual(new Set(ids));
  const [ends] = await sql.unsafe(
    `select count(*) filter (where state = 'cancelled')::integer as cancelled, count(*) filter (where state = 'succeeded')::integer as succeeded from baton.outcomes`,
  );
  expect(ends).toEqual({ cancelled: 4, succeeded: ids.length - 4 });
  const [takers] = await sql.unsafe(
    `select array_agg(distinct w.name) as names from baton.attempts a join baton.workers w on w.id = a.worker_id where a.task_id = any($1::bigint[])`,
    [`{${watched}}`],
  );
  expect(String(takers!.names)).toBe('{"young at young"}');
  // Not vacuous: every worker has done something.
  const [busy] = await sql.unsafe(
    `select count(distinct worker_id)::integer as n from baton.attempts where state = 'succeeded'`,
  );
  expect(busy!.n).toBe(4);
});
