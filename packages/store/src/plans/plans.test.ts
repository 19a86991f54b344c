import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appendLogs, readLogs } from '../data/logs.ts';
import { openPools, openSql, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { readEvents } from '../events/events.ts';
import { dueAdvances } from '../runs/run-advances.ts';
import { cancelTasks } from '../tasks/cancel.ts';
import { claimTasks, loadSpecs } from '../tasks/claim.ts';
import { claimProbe } from '../tasks/claim-probe.ts';
import { alreadyEnded, completeTasks } from '../tasks/complete.ts';
import { overdueLeases, silentLeases, sweepStartDeadlines } from '../tasks/deadlines.ts';
import {
  type DeadPage,
  type FailurePage,
  listDead,
  listFailures,
  readFailureStatistics,
  readWishes,
} from '../tasks/failures.ts';
import { lookAround } from '../tasks/look.ts';
import type { NewTask } from '../tasks/new-task.ts';
import { peekHeads } from '../tasks/peek.ts';
import { dropStaleProgress, writeSigns } from '../tasks/progress.ts';
import { readEnds } from '../tasks/read-ends.ts';
import { endsOf, listTasks, readAttempts, readTask, type TaskPage } from '../tasks/read-tasks.ts';
import { recallFor, recallTasks, takeOrders } from '../tasks/recall.ts';
import { leasesOf, readHeld, settleTasks } from '../tasks/settle.ts';
import { readStanding } from '../tasks/standing.ts';
import { submitHanding, submitTasks } from '../tasks/submit.ts';
import { sweepSessions } from '../tasks/sweep.ts';
import { nextDueMs, promoteDue } from '../tasks/waiting.ts';
import { adoptProbes, failingWorkers, readIncidents, readOpenBreakers } from '../workers/breakers.ts';
import { compareHeld, markStarted, renewSessions } from '../workers/sessions.ts';
import { type Explained, explain, record } from './explain.fixture.ts';
import { generateDrained, generateMillion, idsOf, SHAPE } from './million.fixture.ts';

const BATCH = 200;
const LARGE = /^(tasks|attempts|outcomes|task_logs|events)(_\d{4}w\d\d)?$|^(ready|waiting|leases)$/;

let db: MigratedDatabase;
let pools: Pools;
let leased: string[];
let readyIds: string[];
let ended: string[];
let unused: string[];

beforeAll(async () => {
  db = await migratedDatabase();
  const one = openSql(db.url, { max: 1 });
  await generateMillion(one);
  // A lane in which nothing is.
  await one`insert into baton.lanes (namespace_id, route_id, executor, task_class, tags) values (1, 1, 'function', 'cpu_short', '{idle}')`;
  await one.end({ timeout: 5 });
  pools = openPools(db.url, { hot: 1, lease: 1, api: 1 });
  leased = await idsOf(db.sql, SHAPE.ended + 1, BATCH);
  readyIds = await idsOf(db.sql, SHAPE.ended + SHAPE.leases + 1, BATCH);
  unused = await idsOf(db.sql, SHAPE.tasks + 1, BATCH);
  // Every tenth lease has been going on for a while; signs of as many, times to start by of all that is ready, a few of them over.
  await db.sql.unsafe(`
    update baton.leases set started_at = clock_timestamp() where task_id in (select task_id from baton.leases order by task_id limit ${BATCH});
    insert into baton.progress (task_id, session_id, sign_at, timeout_ms, epoch)
      select task_id, session_id, clock_timestamp(), 60000, epoch from baton.leases where started_at is not null;
    insert into baton.start_deadlines
      select task_id, 60000, clock_timestamp() + (row_number() over (order by task_id) - 300) * interval '1 s' from baton.ready;
    analyze baton.leases, baton.progress, baton.start_deadlines`);
  ended = await idsOf(db.sql, 1, BATCH, 1000);
}, 120_000);
afterAll(async () => {
  await pools?.end();
  await db?.drop();
});

/** Sessions that the leases are dealt to. */
let holders: number = SHAPE.sessions;
const words = () =>
  leased.map((taskId, n) => ({ taskId, epoch: 1, sessionId: String(((SHAPE.ended + 1 + n) % holders) + 1) }));
const lanes = Array.from({ length: SHAPE.lanes }, (_, n) => n + 1);

/** Tasks about to be stored, some of them later, some with keys. */
const news = (laneId: number): NewTask[] =>
  Array.from({ length: BATCH }, (_, n) => ({
    id: unused[n]!,
    namespaceId: 1,
    routeId: 1,
    laneId,
    priority: 0,
    maxAttempts: 4,
    startToCloseMs: 1000,
    encoding: 1,
    input: Uint8Array.of(0x31),
    dueAtMs: n % 10 ? null : Date.now(),
    idempotency: n % 2 ? null : { scope: 'task:k', key: String(n), bodyHash: Uint8Array.of(1), ttlMs: 1000 },
    extra: null,
  }));

const bare = (laneId: number) => news(laneId).map((task) => ({ ...task, dueAtMs: null, idempotency: null }));
const lone = (laneId: number) => bare(laneId).slice(0, 1);

interface Hot {
  name: string;
  pool: keyof Omit<Pools, 'end'>;
  call: (sql: Sql) => Promise<unknown>;
  /** Rows that one scan may look at. */
  rows: number;
  /** Pages that the statement may touch. */
  pages: number;
  /** Tables of the large ones that it may read in full. */
  may?: string[];
  /** It joins its batch with itself, which is seldom large. */
  isSquare?: boolean;
}

/** Each hot statement with what it may cost over a million tasks: a few times its batch, whatever the tables hold. */
const HOT: Hot[] = [
  { name: 'submit', pool: 'hot', call: (sql) => submitTasks(sql, news(1)), rows: BATCH, pages: 30 * BATCH },
  {
    name: 'submit handing',
    pool: 'hot',
    call: (sql) =>
      submitHanding(
        sql,
        news(SHAPE.lanes + 1),
        Array.from({ length: BATCH }, (_, n) => (n % 10 ? String((n % 3) + 1) : null)),
      ),
    rows: BATCH,
    pages: 40 * BATCH,
  },
  { name: 'submit bare', pool: 'hot', call: (sql) => submitTasks(sql, bare(1)), rows: BATCH, pages: 30 * BATCH },
  {
    name: 'submit bare handing',
    pool: 'hot',
    call: (sql) =>
      submitHanding(
        sql,
        bare(SHAPE.lanes + 4),
        Array.from({ length: BATCH }, (_, n) => (n % 10 ? String((n % 3) + 1) : null)),
      ),
    rows: BATCH,
    pages: 40 * BATCH,
  },
  { name: 'submit one', pool: 'hot', call: (sql) => submitTasks(sql, lone(SHAPE.lanes + 2)), rows: 1, pages: 60 },
  {
    name: 'submit one handing',
    pool: 'hot',
    call: (sql) => submitHanding(sql, lone(SHAPE.lanes + 3), ['1']),
    rows: 1,
    pages: 60,
  },
  {
    name: 'claim',
    pool: 'hot',
    call: (sql) =>
      claimTasks(
        sql,
        [7],
        [
          { sessionId: '1', count: BATCH / 2 },
          { sessionId: '2', count: BATCH / 2 },
        ],
      ),
    rows: BATCH,
    pages: 30 * BATCH,
  },
  {
    name: 'claim over all lanes',
    pool: 'hot',
    call: (sql) => claimTasks(sql, lanes, [{ sessionId: '1', count: 10 }]),
    rows: 10 * SHAPE.lanes,
    pages: 4000,
  },
  {
    name: 'claim of many over all lanes',
    pool: 'hot',
    call: (sql) => claimTasks(sql, lanes, [{ sessionId: '1', count: BATCH }]),
    rows: 9 * BATCH,
    pages: 60 * BATCH,
  },
  {
    name: 'peek: the heads of each lane',
    pool: 'hot',
    call: (sql) => peekHeads(sql, lanes, 10),
    rows: 10 * SHAPE.lanes,
    pages: 4000,
  },
  {
    name: 'peek: the oldest of each lane, by its priorities',
    pool: 'hot',
    call: (sql) => peekHeads(sql, lanes, 10, true),
    rows: 100 * SHAPE.lanes,
    pages: 20_000,
  },
  {
    name: 'standing of a task deep in its lane',
    pool: 'api',
    call: (sql) => readStanding(sql, readyIds.at(-1)!),
    rows: 10_000,
    pages: 2_000,
  },
  {
    name: 'load specs',
    pool: 'hot',
    call: (sql) => loadSpecs(sql, readyIds),
    rows: BATCH,
    pages: 6 * BATCH,
  },
  {
    name: 'complete',
    pool: 'hot',
    call: (sql) =>
      completeTasks(
        sql,
        words().map((w) => ({ ...w, output: Uint8Array.of(0x31), encoding: 1, ranUs: 5 })),
      ),
    rows: BATCH,
    pages: 40 * BATCH,
  },
  {
    name: 'already ended',
    pool: 'hot',
    call: (sql) =>
      alreadyEnded(
        sql,
        ended.map((taskId) => ({ taskId, epoch: 1, sessionId: '1' })),
      ),
    rows: BATCH,
    pages: 6 * BATCH,
  },
  { name: 'read held', pool: 'hot', call: (sql) => readHeld(sql, words()), rows: BATCH, pages: 10 * BATCH },
  {
    name: 'settle',
    pool: 'hot',
    call: (sql) =>
      settleTasks(
        sql,
        words().map((w, n) => ({
          ...w,
          attempt: 'failed',
          next: (['backoff', 'ready', 'failed'] as const)[n % 3]!,
          delayMs: 1000,
          budget: 'none',
          failure: null,
          ranUs: 5,
        })),
      ),
    rows: BATCH,
    pages: 40 * BATCH,
  },
  {
    name: 'renew',
    pool: 'lease',
    call: (sql) =>
      renewSessions(
        sql,
        Array.from({ length: 50 }, (_, n) => ({
          sessionId: String(n + 1),
          leaseTtlMs: 30_000,
          metrics: {},
          number: '1',
        })),
      ),
    rows: (50 * SHAPE.leases) / SHAPE.sessions,
    pages: 2000,
  },
  {
    name: 'mark started',
    pool: 'lease',
    call: (sql) =>
      markStarted(
        sql,
        '1',
        words().map((w) => ({ ...w, started: true, ranMs: 5 })),
      ),
    rows: BATCH,
    pages: 6 * BATCH,
  },
  {
    name: 'compare held',
    pool: 'lease',
    call: (sql) =>
      compareHeld(
        sql,
        '1',
        words().map((w) => ({ ...w, started: true, ranMs: 5 })),
        new Date().toISOString(),
        20_000,
      ),
    rows: BATCH,
    pages: 6 * BATCH,
  },
  { name: 'leases of', pool: 'lease', call: (sql) => leasesOf(sql, ['1', '2', '3'], 1000), rows: 30, pages: 200 },
  { name: 'sweep sessions', pool: 'lease', call: sweepSessions, rows: SHAPE.sessions, pages: 3000 },
  { name: 'promote', pool: 'hot', call: (sql) => promoteDue(sql, 500), rows: 500, pages: 40 * 500 },
  { name: 'next due', pool: 'lease', call: nextDueMs, rows: 2, pages: 20 },
  {
    name: 'append logs',
    pool: 'api',
    call: (sql) =>
      appendLogs(
        sql,
        words().map((w, n) => ({ ...w, attempt: 1, sequence: String(n), atMs: 0, stream: 'stdout', text: 'x' })),
      ),
    rows: BATCH,
    pages: 20 * BATCH,
  },
  {
    name: 'cancel',
    pool: 'hot',
    call: (sql) => cancelTasks(sql, [...readyIds.slice(0, 50), ...leased.slice(0, 50), ...ended.slice(0, 50)], 'r'),
    rows: 150,
    pages: 60 * 150,
    isSquare: true,
  },
  { name: 'get task', pool: 'api', call: (sql) => readTask(sql, 1, ended[0]!), rows: 1, pages: 60 },
  { name: 'attempts', pool: 'api', call: (sql) => readAttempts(sql, ended[0]!), rows: 1, pages: 60 },
  {
    name: 'read ends',
    pool: 'api',
    call: (sql) => readEnds(sql, 1, [...ended.slice(0, BATCH / 2), ...readyIds.slice(0, BATCH / 2)], 2 ** 20, true),
    rows: BATCH,
    pages: 20 * BATCH,
  },
  // Only those that were reported as started: every tenth lease.
  { name: 'overdue', pool: 'lease', call: (sql) => overdueLeases(sql, 1000), rows: BATCH, pages: 10 * BATCH },
  { name: 'silent', pool: 'lease', call: (sql) => silentLeases(sql, 1000), rows: BATCH, pages: 10 * BATCH },
  { name: 'drop progress', pool: 'lease', call: (sql) => dropStaleProgress(sql, 500), rows: BATCH, pages: 10 * BATCH },
  {
    name: 'write signs',
    pool: 'lease',
    call: (sql) =>
      writeSigns(
        sql,
        '1',
        words().map((w) => ({ ...w, silentMs: 5, timeoutMs: 1000, fraction: 0.5, message: 'half' })),
      ),
    rows: BATCH,
    pages: 20 * BATCH,
  },
  {
    name: 'sweep start deadlines',
    pool: 'lease',
    call: (sql) => sweepStartDeadlines(sql, 500),
    rows: 500,
    pages: 40 * 500,
    isSquare: true,
  },
  {
    name: 'take orders',
    pool: 'lease',
    call: (sql) =>
      takeOrders(
        sql,
        Array.from({ length: SHAPE.sessions }, (_, n) => String(n + 1)),
      ),
    rows: SHAPE.sessions,
    pages: 10 * SHAPE.sessions,
  },
  // It looks at live leases, as many as workers hold; and only while somebody waits.
  {
    name: 'recall',
    pool: 'lease',
    call: (sql) => recallFor(sql, lanes, ['1']),
    rows: SHAPE.leases,
    pages: SHAPE.leases,
    may: ['leases'],
  },
  {
    name: 'recall tasks',
    pool: 'lease',
    call: (sql) => recallTasks(sql, leased),
    rows: SHAPE.leases,
    pages: 40 * BATCH,
  },
  { name: 'ends of', pool: 'api', call: (sql) => endsOf(sql, ended), rows: BATCH, pages: 6 * BATCH },
  {
    name: 'read logs',
    pool: 'api',
    call: (sql) => readLogs(sql, ended[0]!, { epoch: 0, sequence: '0' }, 100),
    rows: 100,
    pages: 200,
  },
  {
    name: 'read events',
    pool: 'api',
    call: (sql) => readEvents(sql, { xid: '1', id: '0' }, 100),
    rows: 100,
    pages: 500,
  },
  {
    name: 'claim probe',
    pool: 'hot',
    call: (sql) => claimProbe(sql, lanes, '20'),
    rows: SHAPE.lanes,
    pages: 1000,
  },
  {
    name: 'look',
    pool: 'lease',
    call: (sql) => lookAround(sql, lanes, SHAPE.lanes, 60_000),
    rows: SHAPE.sessions,
    pages: 20 * SHAPE.sessions,
  },
  { name: 'failing workers', pool: 'lease', call: (sql) => failingWorkers(sql, 60_000), rows: 100, pages: 500 },
  {
    name: 'incidents',
    pool: 'lease',
    call: (sql) => readIncidents(sql, [1, 2, 3, 21], 3_600_000),
    rows: 1000,
    pages: 3000,
  },
  { name: 'open breakers', pool: 'lease', call: readOpenBreakers, rows: 20, pages: 500 },
  { name: 'adopt probes', pool: 'lease', call: adoptProbes, rows: 200, pages: 500 },
  { name: 'list failures', pool: 'api', call: (sql) => listFailures(sql, FAILURES), rows: 60, pages: 6000 },
  {
    name: 'list the newest failures',
    pool: 'api',
    call: (sql) => listFailures(sql, { ...FAILURES, after: null }),
    rows: 60,
    pages: 6000,
  },
  {
    name: 'list failures of worker',
    pool: 'api',
    call: (sql) => listFailures(sql, { ...FAILURES, worker: 'w21' }),
    rows: 60,
    pages: 6000,
  },
  {
    name: 'list failures of task',
    pool: 'api',
    call: (sql) => listFailures(sql, { ...FAILURES, taskId: ended[0]! }),
    rows: 10,
    pages: 100,
  },
  {
    name: 'failure statistics of a minute',
    pool: 'api',
    call: (sql) => readFailureStatistics(sql, 1, 60_000),
    rows: 6000,
    pages: 20_000,
  },
  {
    name: 'list dead',
    pool: 'api',
    call: (sql) => listDead(sql, { ...DEAD, queue: null }),
    rows: 51 * SHAPE.lanes,
    pages: 60_000,
  },
  { name: 'list dead of a kind', pool: 'api', call: (sql) => listDead(sql, DEAD), rows: 60, pages: 6000 },
  { name: 'read wishes', pool: 'api', call: (sql) => readWishes(sql, 1, ended.slice(0, 20)), rows: 20, pages: 400 },
  { name: 'due advances', pool: 'api', call: (sql) => dueAdvances(sql, 100), rows: 100, pages: 100 },
];

const FAILURES: FailurePage = {
  namespaceId: 1,
  worker: null,
  taskId: null,
  types: [],
  sinceMs: null,
  after: { atUs: String((Date.now() - 600_000) * 1_000), taskId: '1', epoch: 1 },
  limit: 51,
};
const DEAD: DeadPage = {
  namespaceId: 1,
  queue: 'queue 0',
  kind: 'kind 10',
  types: [],
  includeResent: false,
  before: null,
  limit: 51,
};

describe.each(HOT)('$name, over a million tasks', ({ pool, call, rows, pages, may = [], isSquare = false }) => {
  it.each(pool === 'api' ? ['a custom plan', 'a generic plan'] : ['a generic plan'])(
    'visits by index no more than its batch, with %s',
    async (mode) => {
      const plan = await explain(pools[pool], await record(call), mode === 'a generic plan');
      bounded(plan, rows, pages, may);
      if (!isSquare) expect(plan.walked, plan.text).toBeLessThanOrEqual(20 * rows);
    },
  );
});

describe('a page of tasks, over a million', () => {
  const page = (change: Partial<TaskPage>): TaskPage => ({
    namespaceId: 1,
    states: [],
    queue: null,
    kind: null,
    before: null,
    limit: 50,
    ...change,
  });
  const pagesOf: [string, Partial<TaskPage>][] = [
    ['of one kind, ended', { states: ['succeeded'], queue: 'queue 3', kind: 'kind 13' }],
    ['of a queue, of every end', { states: ['succeeded', 'failed', 'cancelled'], queue: 'queue 3' }],
    ['of everything that ended', { states: ['succeeded', 'failed', 'cancelled'] }],
    ['of what is ready', { states: ['ready'] }],
    ['of what waits', { states: ['scheduled', 'backoff', 'blocked'] }],
    ['of what is leased', { states: ['leased'] }],
    [
      'of everything',
      { states: ['scheduled', 'blocked', 'ready', 'leased', 'backoff', 'succeeded', 'failed', 'cancelled'] },
    ],
  ];
  it.each(pagesOf.flatMap(([name, change]) => ['custom', 'generic'].map((mode) => [name, mode, change] as const)))(
    '%s, with a %s plan',
    async (_, mode, change) => {
      const plan = await explain(pools.api, await record((sql) => listTasks(sql, page(change))), mode === 'generic');
      const routes = change.kind ? 1 : change.queue ? 5 : SHAPE.lanes;
      bounded(plan, Math.max(1000, routes * (change.states?.length ?? 0) * 50), 60_000, ['leases']);
    },
  );
});

it('a task that is handed over is leased by the statement that stores it', async () => {
  const { call } = HOT.find(({ name }) => name === 'submit handing')!;
  const { text } = await explain(pools.hot, await record(call), true);
  const leases = /ModifyTable leases .*\n.* rows=(\d+)/.exec(text);
  expect(Number(leases?.[1]), text).toBe((BATCH * 9) / 10);
});

describe('partitions', () => {
  it.each(['get task', 'attempts'])('of other weeks are not opened to %s', async (name) => {
    const { call, pool } = HOT.find((hot) => hot.name === name)!;
    for (const generic of [true, false]) {
      const { scans, text } = await explain(pools[pool], await record(call), generic);
      const touched = scans.filter((scan) => scan.loops > 0 && /_\d{4}w\d\d$/.test(scan.relation));
      const weeks = new Set(touched.map((scan) => scan.relation.slice(-7)));
      expect(touched.length, text).toBeGreaterThan(0);
      expect([...weeks], text).toHaveLength(1);
    }
  });

  it.each(['load specs', 'already ended', 'read held', 'cancel', 'ends of'])(
    'are opened once for each id of theirs, not for all, to %s',
    async (name) => {
      const { call, pool } = HOT.find((hot) => hot.name === name)!;
      const { scans, text } = await explain(pools[pool], await record(call), true);
      const ofPartitions = scans.filter((scan) => /_\d{4}w\d\d$/.test(scan.relation));
      expect(ofPartitions.length, text).toBeGreaterThan(0);
      const loops = ofPartitions.reduce((sum, scan) => sum + scan.loops, 0);
      expect(loops, text).toBeLessThanOrEqual(BATCH);
    },
  );
});

/** Large tables are visited by index (an empty partition is not large), and no scan looks at more rows than the batch is worth. */
function bounded(plan: Explained, rows: number, pages: number, may: string[]): void {
  const inFull = plan.scans.filter(
    (s) => s.node === 'Seq Scan' && s.loops > 0 && s.rows > 0 && LARGE.test(s.relation) && !may.includes(s.relation),
  );
  expect(inFull, plan.text).toEqual([]);
  expect(
    plan.scans.filter((s) => LARGE.test(s.relation) && s.rows > 2 * rows),
    plan.text,
  ).toEqual([]);
  expect(plan.pages, plan.text).toBeLessThanOrEqual(pages);
}

/** Autovacuum last looked when everything had been done: the plans must not believe that it stays so. */
describe('with statistics of drained tables', () => {
  let drained: MigratedDatabase;
  let drainedPools: Pools;

  beforeAll(async () => {
    drained = await migratedDatabase();
    const one = openSql(drained.url, { max: 1 });
    holders = 2;
    await generateDrained(one, { perSession: 1000, ready: 20_000 });
    await one.end({ timeout: 5 });
    drainedPools = openPools(drained.url, { hot: 1, lease: 1, api: 1 });
  });
  afterAll(async () => {
    await drainedPools?.end();
    await drained?.drop();
  });

  const pinned = HOT.filter(({ pool, name }) => pool !== 'api' && name !== 'promote');
  it.each(pinned)('$name visits no more than its batch', async ({ pool, call, rows, name }) => {
    const { scans, text } = await explain(drainedPools[pool], await record(call), true);
    // What is about sessions reads what they hold, each lease once.
    const whole = ['renew', 'compare held', 'leases of', 'overdue', 'sweep sessions'].includes(name) ? 2100 : 0;
    const over = scans.filter((s) => s.loops > 0 && LARGE.test(s.relation) && s.rows > Math.max(2 * rows, whole));
    expect(over, text).toEqual([]);
  });
});
