import { MasterService } from '@baton/contract';
import { createIdMaker } from '@baton/domain';
import { internLane, openSql, submitTasks } from '@baton/store';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage } from './stage.ts';

const BACKLOG = 100_000;
const POLLERS = 100;
const ROUNDS = 5;
const EACH = 20;

test('100 000 tasks wait and 100 workers poll: none is granted twice, and no large table is read in full', {
  timeout: 120_000,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 0, env: { BATON_LEASE_TTL_MS: '600000', BATON_HEARTBEAT_MS: '60000' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const sql = openSql(stack.databaseUrl, { max: 2 });
  stage.own({ [Symbol.asyncDispose]: () => sql.end({ timeout: 0 }) });
  const master = (() => {
    const sessionManager = new Http2SessionManager(stack.url);
    stage.own({
      async [Symbol.asyncDispose]() {
        sessionManager.abort();
      },
    });
    return createClient(MasterService, createGrpcTransport({ baseUrl: stack.url, sessionManager }));
  })();
  const sessions = await Promise.all(
    Array.from({ length: POLLERS }, async (_, n) => {
      const capabilities = { slots: EACH, executors: ['function'], kinds: ['work'] };
      const instanceId = `instance-${n}`;
      return (await master.registerWorker({ name: `w${n}`, instanceId, protocolVersion: 1, capabilities })).sessionId;
    }),
  );
  // A node number that no master of this database leases at the same time.
  const ids = createIdMaker(900, Date.now);
  const lane = await internLane(sql, {
    namespaceId: 1,
    queue: 'default',
    kind: 'work',
    executor: 'function',
    taskClass: 'cpu_short',
    tags: [],
  });
  for (let at = 0; at < BACKLOG; at += 1_000)
    await submitTasks(
      sql,
      Array.from({ length: 1_000 }, () => ({
        id: ids.next(),
        namespaceId: 1,
        routeId: lane.routeId,
        laneId: lane.id,
        priority: 0,
        maxAttempts: 4,
        startToCloseMs: 60_000,
        encoding: 1 as const,
        input: Uint8Array.of(0x31),
        dueAtMs: null,
        idempotency: null,
        extra: null,
      })),
    );
  await ledger.sql`analyze baton.ready`;
  const readInFull = async () => {
    const [row] = await ledger.sql`
      select coalesce(sum(seq_tup_read), 0)::float8 as rows from pg_stat_all_tables
      where schemaname = 'baton' and (relname = 'ready' or relname = 'leases' or relname ~ '^tasks')`;
    return row!.rows as number;
  };
  await ledger.sql`select pg_stat_force_next_flush()`;
  const before = await readInFull();

  const granted: string[] = [];
  await Promise.all(
    sessions.map(async (sessionId) => {
      let held: { taskId: string; epoch: number }[] = [];
      for (let number = 1n; number <= ROUNDS; number++) {
        const results = held.map((lease) => ({
          ...lease,
          outcome: { case: 'success' as const, value: { output: Uint8Array.of(0x31), encoding: 1 } },
          ranUs: 1n,
        }));
        const offer = { number, freeSlots: EACH };
        const { leases, refused } = await master.exchange({ sessionId, number, results, offer, waitMs: 10_000 });
        expect(refused).toEqual([]);
        granted.push(...leases.map(({ taskId }) => taskId));
        held = leases.map(({ taskId, epoch }) => ({ taskId, epoch }));
      }
    }),
  );
  expect(granted.length).toBeGreaterThan(POLLERS * EACH);
  expect(new Set(granted).size).toBe(granted.length);
  const [counts] = await ledger.sql`
    select (select count(*)::int from baton.leases) + (select count(*)::int from baton.outcomes) as granted,
           (select count(*)::int from baton.events, unnest(types) t where t = 3) as events`;
  // Each once; what was granted as an answer left goes with the worker's next call.
  expect(counts!.granted).toBeGreaterThanOrEqual(granted.length);
  expect(counts!.events).toBe(counts!.granted);
  const [again] = await ledger.sql`select count(*)::int as count from baton.leases where epoch <> 1 or attempt <> 1`;
  expect(again!.count).toBe(0);
  // Idle backends report what they did within a second.
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  const [counting] = await ledger.sql`select count(*)::int as rows from baton.leases`;
  const own = counting!.rows + counts!.granted;
  expect((await readInFull()) - before).toBeLessThan(BACKLOG / 2 + own * 2);
});
