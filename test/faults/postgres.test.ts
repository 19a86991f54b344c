import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Baton, createBaton } from '@baton/client';
import { startPostgres, stopPostgres } from '@baton/postgres';
import { startFaultProxy, testDatabase } from '@baton/testkit';
import postgres from 'postgres';
import { expect, test } from 'vitest';
import { type Ledger, openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;

/** Submits without a pause, one after the other in a few lines, and remembers what was acknowledged. */
function load(baton: Baton, stage: Stage) {
  const acknowledged: string[] = [];
  let refused = 0;
  let stopped = false;
  const line = async () => {
    while (!stopped) {
      try {
        const tasks = await Promise.all(
          Array.from({ length: 5 }, () => baton.submit({ kind: 'short', input: { dir: stage.dir }, timeoutMs: 5_000 })),
        );
        acknowledged.push(...tasks.map(({ id }) => id));
      } catch {
        // Unknown: it may be there or not.
        refused++;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const lines = Promise.all([line(), line()]);
  return {
    acknowledged,
    get refused() {
      return refused;
    },
    async stop() {
      stopped = true;
      await lines;
    },
  };
}

async function allEnded(ledger: Ledger): Promise<void> {
  await until(
    async () => {
      const [row] = await ledger.sql`
        select (select count(*) from baton.tasks) = (select count(*) from baton.outcomes) as all`;
      return row!.all;
    },
    'all tasks to end',
    60_000,
  );
}

for (const how of ['killed', 'stopped in immediate mode'] as const)
  test.concurrent(`Postgres is ${how} under load and comes back: everything acknowledged is there and ends`, {
    timeout,
  }, async (context) => {
    await using stage = await openStage(context);
    const home = await mkdtemp(join(tmpdir(), 'baton-faults-postgres-'));
    await chmod(home, 0o711); // as root, the server runs as another user, who has to pass
    const dataDir = join(home, 'data');
    stage.own({
      async [Symbol.asyncDispose]() {
        await stopPostgres(dataDir, { mode: 'immediate' });
        await rm(home, { recursive: true, force: true });
      },
    });
    let server = await startPostgres({ dataDir, port: 0, settings: { fsync: 'off' } });
    const stack = await stage.start({ databaseUrl: server.url, env: { BATON_LEASE_TTL_MS: '20000' } });
    const baton = createBaton({ url: stack.url });
    const running = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
    await stage.until('start', 1);
    const submits = load(baton, stage);
    for (const enough of [60, 140]) {
      await until(() => submits.acknowledged.length >= enough, 'submits');
      if (how === 'killed') {
        process.kill(server.pid, 'SIGKILL');
        await server.whenExited();
      } else await server.stop({ mode: 'immediate' });
      const refusedBefore = submits.refused;
      await until(() => submits.refused > refusedBefore, 'the outage to be felt');
      server = await startPostgres({ dataDir, port: server.port, settings: { fsync: 'off' } });
    }
    await until(() => submits.acknowledged.length >= 220, 'submits');
    await submits.stop();
    stage.open();
    const ledger = stage.own(openLedger(server.url));
    await allEnded(ledger);
    expect(await ledger.problems([running.id, ...submits.acknowledged])).toEqual([]);
    // Nobody was taken for dead because Postgres was away.
    const tasks = [...(await ledger.tasks()).values()];
    expect(tasks.flatMap(({ attempts }) => attempts).filter(({ state }) => state === 'lost')).toEqual([]);
    expect(await running.result()).toMatchObject({ epoch: 1 });
    expect((await baton.system.health()).healthy).toBe(true);
  });

test.concurrent('connections that Postgres ends at random lose nothing and end nothing twice', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start();
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const submits = load(createBaton({ url: stack.url }), stage);
  const admin = postgres(stack.databaseUrl, { max: 1, fetch_types: false, onnotice: () => {} });
  let ended = 0;
  while (submits.acknowledged.length < 250 || ended < 15) {
    const rows = await admin`
      select pg_terminate_backend(pid) from (
        select pid from pg_stat_activity
        where datname = current_database() and application_name like 'baton %' order by random() limit 1) p`;
    ended += rows.length;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
  }
  await admin.end();
  await submits.stop();

  await allEnded(ledger);
  expect(await ledger.problems(submits.acknowledged)).toEqual([]);
});

test.concurrent('statements that Postgres committed and the master did not hear of are repeated without harm', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const database = await testDatabase();
  stage.own(database);
  const direct = new URL(database.url);
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(direct.port) }, protocol: 'postgres' }));
  const through = new URL(database.url);
  through.hostname = '127.0.0.1';
  through.port = String(proxy.port);
  const stack = await stage.start({ databaseUrl: through.href });
  const ledger = stage.own(openLedger(database.url));
  const baton = createBaton({ url: stack.url });
  const submits = load(baton, stage);
  let lost = 0;
  while (lost < 25) {
    // Any statement: sweeps and heartbeats, submits, claims, ends.
    await proxy.loseAnswer({ requestBytes: Math.random() < 0.5 ? 0 : 1_000 });
    lost++;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
  }
  await until(() => submits.acknowledged.length >= 150, 'submits');
  await submits.stop();
  await allEnded(ledger);
  expect(await ledger.problems(submits.acknowledged)).toEqual([]);
  const tasks = [...(await ledger.tasks()).values()];
  expect(tasks.filter(({ attempt }) => attempt !== 1)).toEqual([]);
});
