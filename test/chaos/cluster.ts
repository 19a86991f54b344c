import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FaultProxy, programMain, startFaultProxy, startTestPostgres, type TestPostgres } from '@baton/testkit';
import postgres from 'postgres';
import { LEDGER_VARIABLE } from './effects.ts';
import { createProgram, type Program } from './program.ts';
import type { Random } from './random.ts';

export const LEASE_TTL_MS = 3_000;
export const HEARTBEAT_MS = 600;
export const SWEEP_MS = 150;
export const WORKER_SLOTS = 4;
/** Quick, so that breakers go round within a run: faults of networks and databases look like lost workers to them. */
export const BREAKER = { failures: 3, windowMs: 30_000, openMs: 2_000, soleOpenMs: 2_000, successes: 2 };

export interface MasterNode {
  readonly program: Program;
  /** Between it and Postgres. */
  readonly link: FaultProxy;
}

export interface WorkerNode {
  readonly program: Program;
  /** Between it and the masters. */
  readonly links: readonly WorkerLink[];
}

export interface WorkerLink {
  readonly link: FaultProxy;
  readonly to: string;
}

/** All the processes of a run, and the wires between them. */
export interface Cluster extends AsyncDisposable {
  readonly postgres: TestPostgres;
  readonly masters: readonly MasterNode[];
  readonly workers: readonly WorkerNode[];
  /** Between clients of the harness and the masters. HTTP/1.1 (`fetch`). */
  readonly clientLinks: readonly FaultProxy[];
  /** Between a client of the harness and the masters, of which no fault knows. */
  readonly frontDoor: FaultProxy;
  /** Between raw workers of the harness and one master each. gRPC. */
  readonly rawLinks: readonly FaultProxy[];
  /** Past all proxies, for looking and for faults. */
  readonly sql: postgres.Sql;
  readonly ledgerFile: string;
  /** Every proxy. */
  readonly links: readonly FaultProxy[];
  /** Stops Postgres in immediate mode and starts it again; one restart at a time. */
  restartPostgres(downMs: number): Promise<void>;
  /** Ends all that is wrong with wires and processes, and waits until everything serves. */
  heal(): Promise<void>;
  stop(): Promise<void>;
}

export interface ClusterOptions {
  /** Where the processes run and log. */
  readonly home: string;
  readonly masters: number;
  readonly workers: number;
  readonly clients: number;
  /** Which master each new connection goes to. */
  readonly random: Random;
}

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { home, random } = options;
  const logs = join(home, 'logs');
  await mkdir(logs, { recursive: true });
  const ledgerFile = join(home, 'effects.jsonl');
  const owned: (() => Promise<unknown>)[] = [];
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      for (const end of owned.toReversed()) await end();
    })();
    return stopping;
  };
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const surroundings = { PATH, HOME, NODE_COMPILE_CACHE };
  try {
    const server = await startTestPostgres({ settings: { fsync: 'on', full_page_writes: 'on', max_connections: 150 } });
    owned.push(() => server.stop());
    const sql = postgres(server.url, {
      max: 4,
      fetch_types: false,
      onnotice: () => {},
      connection: { application_name: 'chaos' },
    });
    owned.push(() => sql.end({ timeout: 1 }));
    const proxy = async (options_: Parameters<typeof startFaultProxy>[0]) => {
      const link = await startFaultProxy(options_);
      owned.push(() => link.close());
      return link;
    };
    const masterMain = await programMain('@baton/master/main');
    const workerMain = await programMain('@baton/worker/main');
    const program = (name: string, main: string, env: Record<string, string>) => {
      const made = createProgram({
        name,
        main,
        cwd: home,
        logFile: join(logs, `${name}.log`),
        env: { ...surroundings, LOG_DIR: join(logs, name), ...env },
      });
      owned.push(() => made.down('SIGKILL'));
      return made;
    };

    const masters: MasterNode[] = [];
    for (let i = 1; i <= options.masters; i++) {
      const link = await proxy({ target: { port: Number(new URL(server.url).port) }, protocol: 'postgres' });
      const through = new URL(server.url);
      through.hostname = '127.0.0.1';
      through.port = String(link.port);
      masters.push({
        link,
        program: program(`m${i}`, masterMain, {
          BATON_PORT: '0',
          DATABASE_URL: through.href,
          BATON_LEASE_TTL_MS: String(LEASE_TTL_MS),
          BATON_HEARTBEAT_MS: String(HEARTBEAT_MS),
          BATON_SWEEP_MS: String(SWEEP_MS),
          BATON_LONG_POLL_MS: '5000',
          BATON_DRAIN_GRACE_MS: '2000',
          BATON_BREAKER_FAILURES: String(BREAKER.failures),
          BATON_BREAKER_WINDOW_MS: String(BREAKER.windowMs),
          BATON_BREAKER_OPEN_MS: String(BREAKER.openMs),
          BATON_BREAKER_SUCCESSES: String(BREAKER.successes),
        }),
      });
    }
    for (const { program: master } of masters) master.up();
    await Promise.all(masters.map(({ program: master }) => master.whenServing()));

    /** Of a master that serves; port 1 (refused) when none does. */
    const balanced = () => {
      const serving = masters.flatMap(({ program: master }) => (master.url === undefined ? [] : [master.url]));
      return { port: serving.length === 0 ? 1 : Number(new URL(random.pick(serving)).port) };
    };
    const only = (master: Program) => () => ({ port: master.url === undefined ? 1 : Number(new URL(master.url).port) });
    const workers: WorkerNode[] = [];
    for (let i = 1; i <= options.workers; i++) {
      const links: WorkerLink[] = [];
      if (i % 2 === 0) {
        // One connection, to any master that serves, as a load balancer sends it.
        links.push({ link: await proxy({ target: balanced, protocol: 'http2' }), to: 'masters' });
      } else {
        // It knows them all, and goes to one by its own choice.
        for (const { program: master } of masters)
          links.push({ link: await proxy({ target: only(master), protocol: 'http2' }), to: master.name });
      }
      workers.push({
        links,
        program: program(`w${i}`, workerMain, {
          BATON_URL: links.map(({ link }) => link.url).join(','),
          BATON_WORKER_NAME: `w${i}`,
          BATON_WORKER_PORT: '0',
          BATON_WORKER_SLOTS: String(WORKER_SLOTS),
          // What else the machine does is no fault of this run.
          BATON_GATES: 'off',
          BATON_WORKER_TASKS: fileURLToPath(new URL('./tasks.ts', import.meta.url)),
          [LEDGER_VARIABLE]: ledgerFile,
        }),
      });
    }
    for (const { program: worker } of workers) worker.up();
    const clientLinks: FaultProxy[] = [];
    for (let i = 0; i < options.clients; i++) clientLinks.push(await proxy({ target: balanced, protocol: 'bytes' }));
    const frontDoor = await proxy({ target: balanced, protocol: 'bytes' });
    const rawLinks: FaultProxy[] = [];
    for (const { program: master } of masters) {
      rawLinks.push(await proxy({ target: only(master), protocol: 'http2' }));
    }
    await Promise.all(workers.map(({ program: worker }) => worker.whenServing()));
    const nodes = [...masters, ...workers.flatMap((worker) => worker.links)];
    const links = [...nodes.map(({ link }) => link), ...clientLinks, ...rawLinks];
    let restarting: Promise<unknown> = Promise.resolve();
    return {
      restartPostgres(downMs) {
        const restarted = restarting.then(() => server.restart({ downMs }));
        restarting = restarted.catch(() => {});
        return restarted;
      },
      async heal() {
        await restarting;
        for (const link of links) {
          link.heal();
          link.disarm();
        }
        for (const { program: each } of [...masters, ...workers]) {
          each.signal('SIGCONT');
          each.up();
        }
        await Promise.all([...masters, ...workers].map(({ program: each }) => each.whenServing()));
      },
      postgres: server,
      masters,
      workers,
      clientLinks,
      frontDoor,
      rawLinks,
      sql,
      ledgerFile,
      links,
      stop,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
