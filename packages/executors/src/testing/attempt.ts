import { type Lease, LeaseSchema, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Executor, Outcome } from '@baton/runtime';
import { create, type MessageInitShape } from '@bufbuild/protobuf';

export interface Started {
  readonly outcome: Outcome | Promise<Outcome>;
  readonly lines: string[];
  readonly abort: AbortController;
}

/** Starts one attempt as the runtime would. `input` is a JSON value; leave it out for none. */
export function start(
  executor: Executor,
  lease: MessageInitShape<typeof LeaseSchema>,
  input?: unknown,
  more: Partial<AttemptContext> = {},
): Started {
  const full: Lease = create(LeaseSchema, {
    taskId: '42',
    epoch: 3,
    attempt: 2,
    maxAttempts: 4,
    encoding: PayloadEncoding.JSON,
    input: input === undefined ? new Uint8Array() : new TextEncoder().encode(JSON.stringify(input)),
    ...lease,
  });
  const lines: string[] = [];
  const abort = new AbortController();
  const context: AttemptContext = {
    signal: abort.signal,
    taskId: full.taskId,
    attempt: full.attempt,
    maxAttempts: full.maxAttempts,
    epoch: full.epoch,
    runId: undefined,
    nodeId: undefined,
    devices: full.devices,
    startToCloseMs: 0,
    log: (text) => lines.push(text),
    progress: () => {},
    output: { write: () => Promise.resolve() },
    checkpoint: { latest: 0, save: () => Promise.resolve(1), load: () => Promise.resolve(undefined) },
    blob: (_, { encoding = 'bytes' } = {}) =>
      Promise.resolve({ __baton: 'blob', sha256: 'ab'.repeat(32), sizeBytes: 3, encoding }),
    artifacts: {
      inputs: [],
      put: (name) => Promise.resolve({ __baton: 'artifact', name, sha256: 'ab'.repeat(32), sizeBytes: 3 }),
      get: (name) => Promise.reject(new Error(`no artifact ${name} here`)),
      directory: () => Promise.reject(new Error('no artifacts here')),
    },
    journal: {
      load: () => Promise.resolve({ entries: [], wakes: 0n, nowMs: 0 }),
      append: () => Promise.resolve({ entries: [], wakes: 0n, nowMs: 0 }),
      keepsTimes: true,
    },
    env: {},
    workingDirectory: undefined,
    variable: () => undefined,
    onCheckpointNow: () => {},
    ...more,
  };
  return { outcome: executor.start(full, context), lines, abort };
}

/** The output of a success, decoded; throws for anything else. */
export function outputOf(outcome: Outcome): unknown {
  if (outcome.kind !== 'success') {
    throw new Error(`not a success: ${JSON.stringify(outcome)}`);
  }
  return outcome.encoding === PayloadEncoding.BYTES
    ? outcome.output
    : JSON.parse(new TextDecoder().decode(outcome.output));
}
