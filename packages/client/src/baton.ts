import type { Transport } from '@connectrpc/connect';
import { type CallSettings, DEFAULT_RETRY, type RetryTiming } from './calls/call.ts';
import { createFetchTransport } from './calls/transport.ts';
import type { Compression } from './calls/wire.ts';
import { Artifacts } from './data/artifacts.ts';
import type { BlobValue, ResultOf } from './data/blob-value.ts';
import { Blobs } from './data/blobs.ts';
import { Checkpoints } from './data/checkpoints.ts';
import { Events } from './events.ts';
import { Runs } from './runs/runs.ts';
import { System, Workers } from './system.ts';
import { Queues } from './tasks/queues.ts';
import type { TaskDefinition } from './tasks/task.ts';
import type { SubmitOptions, TaskSubmission } from './tasks/task-spec.ts';
import { type SubmittedTask, Tasks } from './tasks/tasks.ts';
import { Workflows } from './workflows.ts';

export interface BatonOptions {
  /** Where the master is. Default `http://127.0.0.1:7800`. */
  readonly url?: string;
  /** Default `default`. */
  readonly namespace?: string;
  /** Limit of each request in milliseconds; long polls and streams have their own. Default 30 000. */
  readonly timeoutMs?: number;
  /** How reads are repeated while the server is unavailable. */
  readonly retry?: Partial<RetryTiming>;
  /** The `fetch` to call with. Default the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** Whether messages from 1 KiB on travel compressed. Default `auto`: unless the server is on this machine. */
  readonly compression?: Compression;
  /** Any Connect transport, instead of `url`, `fetch` and `compression`. */
  readonly transport?: Transport;
}

/** A client of one namespace. Holds no connection of its own; nothing needs closing. */
export interface Baton {
  readonly namespace: string;
  readonly tasks: Tasks;
  readonly workflows: Workflows;
  readonly runs: Runs;
  readonly events: Events;
  readonly system: System;
  readonly workers: Workers;
  readonly queues: Queues;
  readonly blobs: Blobs;
  readonly artifacts: Artifacts;
  readonly checkpoints: Checkpoints;
  /** Submits a task that was defined by `task`. The handle's `result()` has the type that the task returns. */
  enqueue<Input, Output, Sent>(
    definition: TaskDefinition<Input, Output, Sent>,
    input: NoInfer<Sent> | BlobValue<NoInfer<Sent>>,
    options?: SubmitOptions,
  ): Promise<SubmittedTask<ResultOf<Output>>>;
  /** Submits a task of any kind. */
  submit<Output = unknown>(submission: TaskSubmission): Promise<SubmittedTask<Output>>;
}

/**
 * A client for Baton, in a browser, Deno, Node or workerd.
 *
 * ```ts
 * const baton = createBaton();
 * const handle = await baton.enqueue(greet, { name: 'Ada' });
 * console.log(await handle.result());
 * ```
 */
export function createBaton(options: BatonOptions = {}): Baton {
  const { url = 'http://127.0.0.1:7800', namespace = 'default', timeoutMs = 30_000, fetch } = options;
  const transport = options.transport ?? createFetchTransport({ url, fetch, compression: options.compression });
  const settings: CallSettings = { namespace, timeoutMs, retry: { ...DEFAULT_RETRY, ...options.retry } };
  const tasks = new Tasks(transport, settings);
  return {
    namespace,
    tasks,
    workflows: new Workflows(transport, settings),
    runs: new Runs(transport, settings),
    events: new Events(transport, settings),
    system: new System(transport, settings),
    workers: new Workers(transport, settings, (workerUrl) => createFetchTransport({ url: workerUrl, fetch })),
    queues: new Queues(transport, settings),
    blobs: new Blobs(transport, settings),
    artifacts: new Artifacts(transport, settings),
    checkpoints: new Checkpoints(transport, settings),
    enqueue: (definition, input, submitOptions) => tasks.enqueue(definition, input, submitOptions),
    submit: (submission) => tasks.submit(submission),
  };
}
