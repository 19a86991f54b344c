import { parseArgs } from 'node:util';
import { PEER_NAMES, type PeerName, readPeerName } from './peers/registry.ts';

export const BENCHES = [
  'drain',
  'submit',
  'latency',
  'backlog',
  'sizes',
  'workflows',
  'functions',
  'artifacts',
  'gap',
  'executors',
  'idle',
  'workers',
  'scale',
  'watch',
  'payload',
  'overhead',
  'churn',
  'lanes',
  'results',
] as const;
export type BenchName = (typeof BENCHES)[number];

/** What is measured and how often. Read once from the command line, then handed down. */
export interface BenchOptions {
  readonly bench: BenchName;
  readonly output: 'table' | 'json';
  /** drain: tasks loaded before the workers come. sizes: tasks that come and go. gap, executors: of each way. */
  readonly tasks: number;
  /** drain and latency: BATON_WORKER_SLOTS of each worker, one measurement for each number. executors: callers. */
  readonly concurrency: readonly number[];
  /** drain: worker processes, one measurement for each number; watch: watchers. */
  readonly workers: readonly number[];
  readonly reps: number;
  /** submit and latency: length of one measurement. */
  readonly seconds: number;
  /** latency: probes a second; watch: tasks. */
  readonly rate: number;
  /** latency: no-op tasks a second beside the probes; 'half': half of what each takes when it drains, measured before. */
  readonly load: number | 'half';
  /** Measured beside Baton, in turn. */
  readonly peers: readonly PeerName[];
  /** idle, workers and watch: before it is measured. */
  readonly settleMs: number;
  /** A server of your own; null: an embedded one that is thrown away. */
  readonly postgresUrl: string | null;
  /** Where master and workers leave profiles of their CPU; null: none are made. */
  readonly cpuProfileDir: string | null;
  /** Statements' own times from pg_stat_statements are reported too. */
  readonly statements: boolean;
}

/** The command line is wrong; the message says how, and what there is. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Of each peer its default and its fastest way of what is measured. */
const DEFAULT_PEERS: Partial<Record<BenchName, string>> = {
  drain: 'graphile,graphile:tuned,pgboss:one,pgboss:batch,dbos,bullmq',
  submit: 'graphile,pgboss,dbos,bullmq',
  latency: 'graphile,pgboss:notify,dbos:tuned,bullmq',
  backlog: 'graphile:tuned,pgboss:batch',
};

const TASKS: Partial<Record<BenchName, number>> = {
  backlog: 1_000_000,
  sizes: 200_000,
  churn: 200_000,
  workflows: 10_000,
  functions: 1_000,
  artifacts: 256,
  gap: 1_000,
  executors: 400,
  scale: 500,
  payload: 256,
  overhead: 200,
  lanes: 50_000,
};

const WORKERS: Partial<Record<BenchName, readonly number[]>> = {
  idle: [1, 100, 1_000],
  workers: [1_000, 10_000],
  watch: [100, 1_000],
  scale: [1, 2, 4, 8],
};
/** Two lease times, where the point is that none of them ends. */
const SECONDS: Partial<Record<BenchName, number>> = { latency: 15, idle: 60, workers: 60, watch: 20, overhead: 20 };

export const USAGE = `npm run bench -- drain|submit|latency|backlog|sizes|workflows|functions|artifacts|gap|executors|idle|workers|scale|watch|payload|overhead|churn|lanes|results [options]

  drain     N no-op tasks are loaded, then worker processes take them: tasks/s from the first grant to the last outcome
  submit    tasks are submitted: one by one, 16 and 128 at once, gathered by the SDK, in calls of 1 000
  latency   at 20 tasks a second: submit to the start of its code on a worker, and to the result at the client
  backlog   tasks/s of the first 20 000 where 30 000 wait, and where N wait
  sizes     N tasks come and go: MB of the tables that churn, and of history
  workflows nodes/s of a chain, a fan-out and a lattice of no-op tasks, small and large, by one worker; then all of functions
  functions durable functions: steps/s of one of 1 000 steps; runs/s of three steps, 16 at once, beside DBOS
  artifacts a file from one worker to another: MB/s of put and get, and where it is known or at hand already
  gap       what a worker leaves between two tasks of its one slot, and of its one device (simulated): functions in the
            main thread, a thread and a process, programs that stay
  executors the same small task by each executor: tasks/s, time beside that of a function, CPU of each part

  idle      queries/s and CPU of a master and Postgres with 1, 100 and 1 000 pretended workers connected and nothing to do
  workers   the same with 1 000 and 10 000: time of a heartbeat, memory, none declared dead
  scale     1, 2, 4 and 8 workers with tasks that sleep for 20 ms: the share of their slots' time that is the tasks' own
  watch     100 and 1 000 watchers on one master, one worker with 10 no-op tasks a second: from an event's own time
            to its arrival at each watcher, each event exactly once; memory
  payload   inputs of 1 KiB, 64 KiB and 1 MiB to a worker: MB/s, and the master's memory
  overhead  of a worker's CPU, what its tasks do not use: while they compute, and while there are none
  churn     N tasks with 20 000 always waiting, once without and once with a snapshot that is held open: tasks/s of the whole
            and of each tenth, time of claims, dead rows
  lanes     drain of N tasks of one queue, of 10, 100 and 1 000, of 100 priorities, and of all that at once
  results   1, 16 and 128 callers who submit a no-op task and wait for its result; 2 000 tasks whose results are awaited at once

  -o, --output table|json    default table; JSON is one object on stdout
  --tasks N                  drain, sizes and churn: default 100000, 200000 and 200000; workflows: of the largest graphs, ten times that of functions, default 10000;
                             functions: steps of the one function, and half of the runs, default 1000;
                             artifacts: size of the file, MiB, default 256; gap: of each way, default 1000;
                             executors: of each way, default 400 (containers: a 20th); scale: of each worker, default 500;
                             payload: MiB of each size, at most 20 000 tasks, default 256; overhead: default 200;
                             lanes: of each way, default 50000
  --concurrency 1,10,50      drain, latency, churn and lanes: slots of each worker; workflows: the last;
                             executors: callers at once, default 1,4
  --workers 1,2              drain and scale: worker processes; idle and workers: pretended ones; watch: watchers
  --reps N                   default 3; sizes, idle, workers and watch: 1
  --seconds N                submit, results, latency, idle, workers and watch: length of each measurement; default 3, 3, 15, 60, 60 and 20;
                             overhead: of that without tasks, default 20;
                             payload: until the master's memory is read again, default 3
  --rate N                   latency: probes a second, default 20; watch: tasks a second, default 10
  --load N|half              latency: no-op tasks a second beside the probes, or half of what each takes when it drains; default 0
  --peers a,b:way|none       drain, submit, latency, backlog: measured beside Baton, in turn, on the same server. Default:
                             ${Object.entries(DEFAULT_PEERS)
                               .map(([bench, peers]) => `${bench} ${peers}`)
                               .join(';\n                             ')}
  --postgres URL             your server (a database is made and dropped); default an embedded one, thrown away
  --statements               report the time of each statement (pg_stat_statements)
  --cpu-prof DIR             master and workers write CPU profiles there (this costs speed)

Figures depend on what else the machine does: foreign_cores says how much of it was not ours.
`;

/** @throws UsageError */
export function readOptions(argv: readonly string[]): BenchOptions {
  const { values, positionals } = parse(argv);
  const bench = positionals[0] as BenchName;
  if (positionals.length !== 1 || !BENCHES.includes(bench)) throw new UsageError(`name one of ${BENCHES.join(', ')}`);
  const output = values.output ?? 'table';
  if (output !== 'table' && output !== 'json') throw new UsageError(`-o ${output}: there are table and json`);
  const numbers = (name: 'concurrency' | 'workers', fallback: readonly number[]) =>
    values[name]?.split(',').map((text) => whole(name, text)) ?? fallback;
  const number = (name: 'tasks' | 'reps' | 'rate', fallback: number) =>
    values[name] === undefined ? fallback : whole(name, values[name]);
  return Object.freeze({
    bench,
    output,
    tasks: number('tasks', TASKS[bench] ?? 100_000),
    concurrency: numbers(
      'concurrency',
      ['latency', 'backlog', 'churn', 'lanes'].includes(bench) ? [10] : bench === 'executors' ? [1, 4] : [1, 10, 50],
    ),
    workers: numbers('workers', WORKERS[bench] ?? [1, 2]),
    reps: number('reps', ['sizes', 'idle', 'workers', 'watch'].includes(bench) ? 1 : 3),
    seconds: values.seconds === undefined ? (SECONDS[bench] ?? 3) : positive('seconds', values.seconds),
    settleMs: values.seconds === undefined ? 15_000 : 1_000,
    rate: number('rate', bench === 'watch' ? 10 : 20),
    load: values.load === undefined || values.load === 'half' ? (values.load ?? 0) : whole('load', values.load),
    peers: peers(values.peers ?? DEFAULT_PEERS[bench] ?? 'none'),
    postgresUrl: values.postgres ?? null,
    cpuProfileDir: values['cpu-prof'] ?? null,
    statements: values.statements ?? false,
  });
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        output: { type: 'string', short: 'o' },
        tasks: { type: 'string' },
        concurrency: { type: 'string' },
        workers: { type: 'string' },
        reps: { type: 'string' },
        seconds: { type: 'string' },
        rate: { type: 'string' },
        load: { type: 'string' },
        peers: { type: 'string' },
        postgres: { type: 'string' },
        statements: { type: 'boolean' },
        'cpu-prof': { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function whole(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 100_000_000)
    throw new UsageError(`--${name} ${text}: write whole numbers from 1`);
  return value;
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0) || value > 1_000_000) throw new UsageError(`--${name} ${text}: write a number above 0`);
  return value;
}

/** @throws UsageError */
function peers(text: string): PeerName[] {
  if (text === 'none') return [];
  return text.split(',').map((name) => {
    const peer = readPeerName(name);
    if (peer === null) throw new UsageError(`--peers ${name}: there are ${PEER_NAMES.join(', ')}`);
    return peer;
  });
}
