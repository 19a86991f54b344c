/**
 * The rules of the house, as data. `tools/house.ts` proves them; `tools/house.test.ts` shows that each can fail.
 *
 * A package may import what its line names and nothing else. Tests (`TEST_FILE` below) may import any package, the testkit too.
 */
export interface Layer {
  /** Members of the workspace that it may import, without the `@baton/`. `*` is every package but the testkit. */
  may: readonly string[];
  /**
   * Runs in browsers, Deno and workerd too: whatever its index reaches is free of Node. The text says which of its
   * exports are for Node alone, and are not looked at.
   */
  edge?: { nodeOnly: readonly string[] };
}

const everywhere = { nodeOnly: [] };

export const LAYERS: Record<string, Layer> = {
  // The vocabulary, and what is generated from the contract.
  domain: { may: [], edge: everywhere },
  contract: { may: [], edge: everywhere },
  expressions: { may: ['domain'], edge: everywhere },

  // The master's side.
  store: { may: ['domain'], edge: { nodeOnly: ['./node'] } },
  engine: { may: ['domain', 'expressions', 'store'], edge: everywhere },
  api: { may: ['contract', 'domain', 'engine'], edge: everywhere },

  // The worker's side. It never imports the store.
  client: { may: ['contract', 'domain', 'expressions'], edge: { nodeOnly: ['./process'] } },
  runtime: { may: ['client', 'contract', 'domain', 'hardware', 'server', 'telemetry'] },
  executors: { may: ['client', 'contract', 'domain', 'runtime'] },

  // What stands below both.
  server: { may: ['contract'] },
  telemetry: { may: ['domain'] },
  hardware: { may: ['domain'] },
  postgres: { may: ['domain'] },
  // It starts the real processes.
  testkit: { may: ['*', 'cli', 'master', 'worker'] },

  // Apps. None imports another, but for the command that starts them.
  master: { may: ['api', 'contract', 'domain', 'engine', 'hardware', 'postgres', 'server', 'store', 'telemetry'] },
  edge: { may: ['api', 'contract', 'domain', 'engine', 'store'] },
  worker: { may: ['client', 'contract', 'domain', 'executors', 'hardware', 'runtime', 'server', 'telemetry'] },
  dashboard: { may: ['client', 'contract', 'domain'] },
  cli: { may: ['*', 'master', 'worker'] },

  // Examples see what a user sees, and the port that makes a gRPC service of a function.
  examples: { may: ['cli', 'client', 'contract', 'domain', 'server', 'worker'] },
};

/** npm packages that run without Node. `x/*` is every sub-path; what is not named here is taken for Node's alone. */
export const EDGE_NPM: readonly string[] = [
  '@bufbuild/cel',
  '@bufbuild/cel/ext',
  '@bufbuild/cel-spec/*',
  '@bufbuild/protobuf',
  '@bufbuild/protobuf/*',
  '@bufbuild/protovalidate',
  '@bufbuild/protovalidate/gen/*',
  '@connectrpc/connect',
  '@connectrpc/connect/protocol',
  '@connectrpc/connect/protocol-connect',
  '@connectrpc/connect/protocol-grpc-web',
  '@connectrpc/connect-web',
  '@noble/hashes/sha2.js',
  'drizzle-orm',
  'drizzle-orm/pg-core',
  'drizzle-orm/postgres-js',
  'hono',
  'hono/*',
  'postgres', // has a build for workerd of its own
  'yaml',
];

/** Files of an app or an example that may read the environment. */
export const READS_ENVIRONMENT = /(^|\/)(config|main|bin)\.ts$/;

/** Members that may read the environment anywhere: they never ship. */
export const MAY_READ_ENVIRONMENT: readonly string[] = ['testkit'];

/** Files that are the program's own side: a worker tells it by its environment how to be spoken to. */
export const READS_OWN_ENVIRONMENT: readonly string[] = ['packages/client/src/calls/process.ts'];

/** Folders and files that say nothing about what is in them. */
export const NAMELESS = /^(helpers?|[\w-]*utils?|misc)(\.\w+)*$/i;

/** Lines above which a file says why it is so long, in a comment with the words of `LENGTH_REASON`. */
export const MAX_LINES = 600;
export const LENGTH_REASON = /^\s*(\/\/|\/?\*+|--|#).*\blong because \S/im;

/** Written by generators or by others: read for what it imports, not for its style. */
export const NOT_OURS = /(^|\/)(gen|third_party)\//;

/** Tests, and what only tests use, may reach further than the code beside which they stand. */
export const TEST_FILE = /\.(test|fixture)\.tsx?$|(^|\/)(test|testing)\//;
