import { setTimeout as sleep } from 'node:timers/promises';
import type postgres from 'postgres';
import type { BenchServer } from '../server.ts';
import type { Peer, PeerClient } from './peer.ts';
import { noRedis, startRedis } from './redis.ts';
import { loadPeer, type PeerName } from './registry.ts';

/** A peer with an empty store of its own: a fresh database of the server that Baton is measured on, or a Redis. */
export interface PeerStore extends AsyncDisposable {
  readonly peer: Peer;
  readonly url: string;
  readonly client: PeerClient;
  /** Beside Postgres; 0: there is none. */
  readonly redisPid: number;
  /** So many jobs wait. */
  load(jobs: number): Promise<void>;
  anyPending(): Promise<boolean>;
}

const CALL = 1_000;
const CONNECTIONS = 10;
const LOOK_MS = 20;
const TRIES = 250;

export async function openPeer(server: BenchServer, name: PeerName, job: object): Promise<PeerStore> {
  const peer = await loadPeer(name);
  const stack = new AsyncDisposableStack();
  try {
    const redis = peer.store === 'redis' ? stack.use(await startRedis()) : null;
    const database = redis === null ? stack.use(await server.freshDatabase()) : null;
    const url = redis?.url ?? database!.url;
    if (database !== null) stack.defer(() => whenAlone(database.sql));
    const client = await peer.open(url, name.variant, CONNECTIONS, true);
    stack.defer(async () => void (await client.close()));
    const whole = stack.move();
    return {
      peer,
      url,
      client,
      redisPid: redis?.pid ?? 0,
      async load(jobs) {
        if (peer.multiply !== null) {
          await client.add(job as never);
          if (jobs > 1) await peer.multiply(database!.sql, jobs);
          // As before each run of Baton's: what autovacuum would do meanwhile, and the checkpoint that the load has earned.
          await database!.sql`vacuum analyze`;
          await database!.sql`checkpoint`;
          return;
        }
        for (let left = jobs; left > 0; left -= CALL)
          await client.addMany!(Array.from({ length: Math.min(left, CALL) }, () => job as never));
      },
      anyPending: () => (peer.anyPending === null ? client.anyPending!() : peer.anyPending(database!.sql)),
      [Symbol.asyncDispose]: () => whole.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/**
 * Until the peer's connections have ended, which it says before they have: those that the end of the database cuts are errors that nobody
 * hears any more, and end this process.
 */
async function whenAlone(sql: postgres.Sql): Promise<void> {
  for (let tries = 0; tries < TRIES; tries++) {
    const [row] = await sql`select count(*)::integer as others from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend' and application_name <> 'postgres.js'`;
    if (row!.others === 0) return;
    await sleep(LOOK_MS);
  }
}

/** Why this peer cannot be measured here; null: it can. */
export async function cannotRun(name: PeerName): Promise<string | null> {
  const { store } = await loadPeer(name);
  return store === 'redis' ? noRedis() : null;
}
