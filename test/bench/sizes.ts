import { setTimeout as sleep } from 'node:timers/promises';
import { TaskSpecSchema, WorkflowService } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import type postgres from 'postgres';
import { connect, INPUT } from './calls.ts';
import { IncompleteHistoryError } from './history.ts';
import type { BenchOptions } from './options.ts';
import { type Product, startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

/** What a table takes after so many tasks, without any help: no vacuum but what Postgres does by itself. */
export interface SizeRun {
  table: string;
  tasks: number;
  tableMb: number;
  indexesMb: number;
  /** The most that it took while tasks came and went; null: of history, which only grows. */
  peakMb: number | null;
  liveRows: number;
  /** As Postgres counts them; of history there are none. */
  deadRows: number;
  /** Of history: what a million tasks take. */
  mbPerMillion: number | null;
}

/** Tables whose rows come and go. */
const CHURN = ['ready', 'waiting', 'leases', 'sessions', 'advances', 'run_nodes', 'runs', 'idempotency'] as const;
const HISTORY = ['tasks', 'attempts', 'outcomes', 'events'] as const;

const WORKERS = 2;
const SLOTS = 25;
/** Tasks that are submitted and have not ended, at most: work comes in about as fast as it is done. */
const BACKLOG = 3_000;
const CALL = 500;
/** One in so many fails at first, and waits for its retry; one in so many has an idempotency key; one in so many calls starts a run. */
const FLAKY = 50;
const KEYED = 10;
const RUN_EVERY = 2;
const RUN_NODES = 3;
const LOOK_MS = 250;
const STALL_MS = 60_000;

/**
 * Sends the tasks through the product, with a bounded backlog, while workers take them, and measures what the tables take when all have
 * ended. Input and output are small, as in the other benchmarks.
 */
export async function measureSizes(server: BenchServer, options: BenchOptions): Promise<SizeRun[]> {
  await using product = await startProduct(server, options);
  const { sql } = product.database;
  const client = connect(product.url);
  const workflows = createClient(WorkflowService, createGrpcTransport({ baseUrl: product.url }));
  const nodes = Object.fromEntries(
    Array.from({ length: RUN_NODES }, (_, i) => [`n${i}`, { task: 'noop', ...(i > 0 && { needs: [`n${i - 1}`] }) }]),
  );
  await workflows.applyWorkflow({ definitionJson: JSON.stringify({ name: 'chain', nodes }) });
  await product.addWorkers(WORKERS, SLOTS);

  const peaks = new Map<string, number>();
  let over = false;
  const watching = (async () => {
    while (!over) {
      for (const { table, bytes } of await totalSizes(sql)) peaks.set(table, Math.max(peaks.get(table) ?? 0, bytes));
      await sleep(LOOK_MS);
    }
  })();
  try {
    let sent = 0;
    let calls = 0;
    let runs = 0;
    while (sent < options.tasks) {
      await whenEnded(product, client, sent + runs * RUN_NODES - BACKLOG);
      const count = Math.min(CALL, options.tasks - sent);
      const specs = Array.from({ length: count }, (_, i) =>
        create(TaskSpecSchema, {
          kind: (sent + i) % FLAKY === 0 ? 'flaky' : 'noop',
          payload: { case: 'inputJson', value: INPUT },
          ...((sent + i) % KEYED === 0 && { idempotencyKey: `key ${sent + i}` }),
        }),
      );
      await client.tasks.submitTasks({ tasks: specs });
      sent += count;
      if (++calls % RUN_EVERY === 0) {
        await workflows.startRun({ workflow: { case: 'workflowName', value: 'chain' } });
        runs++;
      }
    }
    const tasks = sent + runs * RUN_NODES;
    await whenEnded(product, client, tasks);
    over = true;
    await watching;
    return await readSizes(sql, tasks, peaks);
  } finally {
    over = true;
    await watching.catch(() => {});
  }
}

/** Resolves when so many tasks have ended, by the master's own counters. */
async function whenEnded(product: Product, client: ReturnType<typeof connect>, count: number): Promise<void> {
  let before = -1;
  let changedAt = performance.now();
  for (;;) {
    const { metrics } = await client.system.getMetrics({ names: ['baton_tasks_succeeded_total'] });
    const ended = metrics[0]!.value;
    if (ended >= count) return;
    if (ended !== before) {
      before = ended;
      changedAt = performance.now();
    } else if (performance.now() - changedAt > STALL_MS)
      throw new IncompleteHistoryError(
        `${ended} of ${count} tasks ended, and none for ${STALL_MS} ms\n${product.logs()}`,
      );
    await sleep(20);
  }
}

async function totalSizes(sql: postgres.Sql): Promise<{ table: string; bytes: number }[]> {
  const rows = await sql`
    select relname as table, pg_total_relation_size(oid)::float8 as bytes from pg_class
    where relnamespace = 'baton'::regnamespace and relname = any(${`{${CHURN.join(',')}}`}::text[])`;
  return rows as unknown as { table: string; bytes: number }[];
}

async function readSizes(sql: postgres.Sql, tasks: number, peaks: ReadonlyMap<string, number>): Promise<SizeRun[]> {
  const [left] = await sql`
    select (select count(*)::integer from baton.tasks) as tasks, (select count(*)::integer from baton.outcomes where state = 'succeeded') as ended`;
  if (left!.tasks !== tasks || left!.ended !== tasks)
    throw new IncompleteHistoryError(`of ${tasks} tasks: tasks=${left!.tasks}, succeeded=${left!.ended}`);
  // Backends hand in their counts when they are idle for a moment.
  await sleep(1_500);
  const rows = await sql`
    select coalesce(p.relname, c.relname) as table, sum(pg_table_size(c.oid))::float8 as table_bytes, sum(pg_indexes_size(c.oid))::float8 as index_bytes,
           sum(coalesce(s.n_dead_tup, 0))::integer as dead
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid left join pg_class p on p.oid = i.inhparent
    left join pg_stat_all_tables s on s.relid = c.oid
    where c.relnamespace = 'baton'::regnamespace and c.relkind = 'r'
      and coalesce(p.relname, c.relname) = any(${`{${[...CHURN, ...HISTORY].join(',')}}`}::text[])
    group by 1`;
  const sizes = new Map(rows.map((row) => [row.table as string, row]));
  const runs: SizeRun[] = [];
  for (const table of [...CHURN, ...HISTORY]) {
    const row = sizes.get(table)!;
    const [{ n }] = (await sql.unsafe(`select count(*)::integer as n from baton.${table}`)) as unknown as [
      { n: number },
    ];
    const isHistory = (HISTORY as readonly string[]).includes(table);
    const bytes = (row.table_bytes as number) + (row.index_bytes as number);
    runs.push({
      table,
      tasks,
      tableMb: (row.table_bytes as number) / 1e6,
      indexesMb: (row.index_bytes as number) / 1e6,
      peakMb: isHistory ? null : Math.max(peaks.get(table) ?? 0, bytes) / 1e6,
      liveRows: n,
      deadRows: row.dead as number,
      mbPerMillion: isHistory ? bytes / tasks : null,
    });
  }
  return runs;
}
