// One pipeline, carried out by each executor: what comes out is the same, byte for byte.
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { startContainers } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import postgres from 'postgres';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { grpcService, httpService, type JsonService } from './json-services.ts';
import { statistics } from './statistics.ts';

const containers = await startContainers().catch((error: Error) => {
  console.warn(`the pipeline in containers: NOT RUN, ${error.message}`);
  return undefined;
});
const program = fileURLToPath(new URL('statistics.program.ts', import.meta.url));
const repository = fileURLToPath(new URL('../..', import.meta.url));
const node = realpathSync(process.execPath);
/** What Node needs of this machine, in an image that has busybox alone. */
const mounts = ['/lib', '/lib64', '/usr/lib', repository.replace(/\/$/, '')];

const stack = useStack({ workers: 0, tasksModule: new URL('statistics.tasks.ts', import.meta.url) });
let grpc: JsonService;
let http: JsonService;
let sql: postgres.Sql;

beforeAll(async () => {
  [grpc, http] = await Promise.all([grpcService(statistics), httpService(statistics)]);
  sql = postgres(stack().databaseUrl, { max: 1, fetch_types: false });
  await stack().addWorker({
    env: {
      BATON_HTTP_ALLOW: '127.0.0.0/8',
      ...(containers && {
        BATON_CONTAINER_SOCKET: containers.socketPath,
        BATON_CONTAINER_MOUNTS: mounts.map((path) => `${path}:ro`).join(),
        BATON_CONTAINER_NETWORKS: 'none',
        BATON_CONTAINER_ULIMITS: 'nofile=1024:4096,nproc=4096:4096',
      }),
    },
  });
});
afterAll(async () => {
  await Promise.all([sql?.end(), grpc?.[Symbol.asyncDispose](), http?.[Symbol.asyncDispose](), containers?.close()]);
});

/** Of a node: who carries it out. */
const ways = {
  function: () => ({ task: 'statistics' }),
  'function in a thread': () => ({ task: 'statistics-thread' }),
  'function in a process': () => ({ task: 'statistics-process' }),
  process: () => ({ process: { command: [process.execPath, program] } }),
  'process, warm': () => ({ process: { command: [process.execPath, program, '--stay'], keep_warm: true } }),
  grpc: () => ({ grpc: { address: grpc.address, method: 'test.Json/Run' } }),
  http: () => ({ http: { url: http.address } }),
  container: () => inContainer(),
} as const;

function inContainer(...words: string[]) {
  return {
    container: {
      image: containers!.image,
      command: [node, program, ...words],
      network: 'none',
      mounts: mounts.map((path) => ({ source: path, target: path, read_only: true })),
    },
  };
}

/** A sample, two nodes that look at it, and one that waits for both. */
const pipeline = (who: object) => ({
  name: 'statistics',
  nodes: {
    sample: { ...who, input: { step: 'sample', seed: 42, count: 500 } },
    moments: { needs: ['sample'], ...who, input: { step: 'moments', values: { $from: 'sample', path: ['values'] } } },
    quantiles: {
      needs: ['sample'],
      ...who,
      input: { step: 'quantiles', at: [0.05, 0.5, 0.95], values: { $from: 'sample', path: ['values'] } },
    },
    report: {
      needs: ['moments', 'quantiles'],
      ...who,
      input: { step: 'report', moments: { $from: 'moments' }, quantiles: { $from: 'quantiles' } },
    },
  },
  output: { report: { $from: 'report' }, moments: { $from: 'moments' } },
});

/** What each node put out, as it is kept. */
async function outputsOf(who: object): Promise<Record<string, string>> {
  const run = await createBaton({ url: stack().url }).runs.start(pipeline(who) as never);
  await run.result();
  const rows = await sql<{ node: string; output: Uint8Array }[]>`
    select n.node_id as node, o.output from baton.run_nodes n join baton.outcomes o on o.task_id = n.task_id
    where n.run_id = ${run.id}::bigint order by node`;
  return Object.fromEntries(rows.map(({ node, output }) => [node, Buffer.from(output).toString()]));
}

let reference: Record<string, string> | undefined;

for (const [way, who] of Object.entries(ways)) {
  test.skipIf(way === 'container' && containers === undefined)(`by ${way}`, { timeout: 120_000 }, async () => {
    reference ??= await outputsOf(ways.function());
    const outputs = await outputsOf(who());
    expect(Object.keys(outputs)).toEqual(['moments', 'quantiles', 'report', 'sample']);
    expect(outputs).toEqual(reference);
    const sample = statistics({ step: 'sample', seed: 42, count: 500 }).values as number[];
    expect(JSON.parse(outputs.report!)).toEqual(
      statistics({
        step: 'report',
        moments: statistics({ step: 'moments', values: sample }) as Record<string, number>,
        quantiles: statistics({ step: 'quantiles', at: [0.05, 0.5, 0.95], values: sample }) as Record<string, number>,
      }),
    );
  });
}

test.skipIf(containers === undefined)(
  'a program that would stay for the next task is ended in a container, and what it said stands',
  { timeout: 120_000 },
  async () => {
    const definition = {
      name: 'stays',
      nodes: { moments: { ...inContainer('--stay'), input: { step: 'moments', values: [1, 2] } } },
    };
    const run = await createBaton({ url: stack().url }).runs.start(definition as never);
    await run.result();
    expect(await containers!.podman('ps', '--all', '--quiet')).toBe('');
  },
);
