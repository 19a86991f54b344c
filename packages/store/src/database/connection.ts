import postgres from 'postgres';
import { type RenewingPool, type RenewingPoolOptions, renewingPool } from './renewing-pool.ts';

/** A pool of connections. Statements on it are single statements: the driver's `begin` is not used (a connection that dies inside it can leak writes into another transaction). */
export type Sql = postgres.Sql;

export interface SqlOptions extends RenewingPoolOptions {
  /** Connections at most. */
  max: number;
  /** Shown in pg_stat_activity. Default "baton". */
  applicationName?: string;
  /** A statement that runs longer is cancelled, ms. Default 30 000. */
  statementTimeoutMs?: number;
  /** A lock wait that is longer is given up, ms. Default 10 000. */
  lockTimeoutMs?: number;
  /** Plan by index and nested loop only: for statements whose plan must not depend on statistics of tables that churn. */
  pinPlans?: boolean;
  /** Plan each statement once per connection, and not for each call: planning over partitions is the dearest part of a small read. */
  genericPlans?: boolean;
  /** Behind a transaction pooler: no session settings, no prepared statements. */
  pooled?: boolean;
  onNotice?: (notice: string) => void;
}

export function openSql(url: string, options: SqlOptions): Sql {
  return openPool(url, options).sql;
}

function openPool(url: string, options: SqlOptions): RenewingPool {
  const session: Record<string, string | number> = { application_name: options.applicationName ?? 'baton' };
  if (!options.pooled) {
    session.statement_timeout = options.statementTimeoutMs ?? 30_000;
    session.lock_timeout = options.lockTimeoutMs ?? 10_000;
    session.idle_in_transaction_session_timeout = 30_000;
    session.TimeZone = 'UTC';
    session.jit = 'off';
    if (options.pinPlans) {
      session.enable_seqscan = 'off';
      session.enable_hashjoin = 'off';
      session.enable_mergejoin = 'off';
      session.enable_bitmapscan = 'off';
      // Look-ups of a batch seldom repeat: remembering them costs a claim 0.6 µs a task, for a copy of each row.
      session.enable_memoize = 'off';
      // A batch of a few MiB stays in memory, on its way through a statement, and is not written to files.
      session.work_mem = '32MB';
    }
    // Left alone, the server plans "get task" anew for each call, for ever: 2.7 ms of CPU against 0.25.
    if (options.pinPlans || options.genericPlans) session.plan_cache_mode = 'force_generic_plan';
  }
  const make = () =>
    postgres(url, {
      max: options.max,
      // Registry look-ups are a query per connection; every array travels as a literal or as JSON instead.
      fetch_types: false,
      prepare: !options.pooled,
      connect_timeout: 10,
      max_lifetime: null,
      backoff: (attempt: number) => Math.min(1, 0.05 * 2 ** attempt) * (0.5 + Math.random() / 2),
      onnotice: (notice) => options.onNotice?.(String(notice.message)),
      connection: session as Record<string, string>,
    });
  return renewingPool(make, options);
}

/** Pools apart, so that a flood on one side never starves heartbeats or claims. */
export interface Pools {
  /** Submit, claim, complete. */
  hot: Sql;
  /** Registration, heartbeats, sweeps. */
  lease: Sql;
  /** Reads and everything else. */
  api: Sql;
  end(): Promise<void>;
}

export interface PoolSizes {
  hot?: number;
  lease?: number;
  api?: number;
}

export interface PoolsOptions extends PoolSizes {
  /**
   * How soon heartbeats must get through, ms: calls of the lease pool that get no answer for a third of it (5 s at least) are made
   * again on new connections, those of the other pools too. Default 30 000.
   */
  leaseTtlMs?: number;
  onNotice?: (notice: string) => void;
  /** Postgres left calls unanswered for too long, and all connections are being made anew. */
  onSilence?: () => void;
}

const STATEMENT_TIMEOUT_MS = 30_000;
/** Over the time after which the server itself ends a statement. */
const ANSWER_SLACK_MS = 5_000;
const SHED_STUCK_MS = 1_000;
const SHED_CALLS_PER_CONNECTION = 8;

/** Opens a master's pools. Connections are made when first used. */
export function openPools(url: string, options: PoolsOptions = {}): Pools {
  const leaseAnswerMs = Math.max(5_000, (options.leaseTtlMs ?? 30_000) / 3);
  const apiConnections = options.api ?? 6;
  const silence = () => {
    options.onSilence?.();
    for (const pool of [hot, lease, api]) pool.renew();
  };
  const open = (own: SqlOptions) =>
    openPool(url, {
      onNotice: options.onNotice,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
      answerTimeoutMs: STATEMENT_TIMEOUT_MS + ANSWER_SLACK_MS,
      onSilence: silence,
      ...own,
    });
  const hot = open({ max: options.hot ?? 3, applicationName: 'baton hot', pinPlans: true });
  const lease = open({
    max: options.lease ?? 2,
    applicationName: 'baton lease',
    pinPlans: true,
    // What nobody waits for any more must not go on and hold locks.
    statementTimeoutMs: leaseAnswerMs,
    lockTimeoutMs: leaseAnswerMs * 0.8,
    answerTimeoutMs: leaseAnswerMs + 500,
  });
  const api = open({
    max: apiConnections,
    applicationName: 'baton api',
    genericPlans: true,
    shed: { calls: SHED_CALLS_PER_CONNECTION * apiConnections, stuckMs: SHED_STUCK_MS },
  });
  return {
    hot: hot.sql,
    lease: lease.sql,
    api: api.sql,
    end: async () => {
      await Promise.all([hot, lease, api].map(({ sql }) => sql.end({ timeout: 5 })));
    },
  };
}

/** One pool for everything: an edge function's, or a test's. */
export function singlePool(sql: Sql): Pools {
  return { hot: sql, lease: sql, api: sql, end: () => sql.end({ timeout: 5 }) };
}
