import {
  type GetRunJournalResponse,
  PayloadEncoding,
  PayloadFormat,
  type Run,
  RunSchema,
  type StartRunRequest,
  StartRunRequestSchema,
  type StartRunResponse,
  TaskService,
  WorkflowService,
} from '@baton/contract';
import { create, equals } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callOnce, callRepeatably, requestOptions } from '../calls/call.ts';
import { Ends } from '../calls/ends.ts';
import { BatonError, toBatonError } from '../calls/error.ts';
import { GATHER_LIMITS, Gatherer, refusedItem } from '../calls/gather.ts';
import { type List, listOf, type PageOptions } from '../calls/pages.ts';
import { reconnecting } from '../calls/reconnect.ts';
import { optionalDate } from '../calls/time.ts';
import { isBlobValue } from '../data/blob-value.ts';
import { Blobs } from '../data/blobs.ts';
import { decodeValue } from '../durable/payload.ts';
import { RunCancelled, RunFailed } from '../tasks/outcome.ts';
import { encodeInput, sizeOfPayload } from '../tasks/payload.ts';
import type { OutputPart } from '../tasks/task-streams.ts';
import {
  isFinalRunState,
  type NodeStateName,
  nodeStateOf,
  type RunStateName,
  runStateName,
  runStateOf,
} from '../words.ts';
import { isGraph, type StartableGraph } from '../workflows/graph.ts';
import { isWorkflowFunction, type WorkflowFunction } from '../workflows/workflow-function.ts';
import { present, type WorkflowDefinition } from '../workflows.ts';
import { type JournalEntryView, journalEntryView, type RunJournal } from './journal-view.ts';
import { type SignalOptions, signalRun } from './run-signal.ts';
import {
  type NodeOutputOptions,
  type OutputChunk,
  type OutputChunksOptions,
  type RunProgress,
  type RunReader,
  readOutputChunks,
  type StreamRunOptions,
  streamNodeOutput,
  streamRun,
} from './run-streams.ts';
import { type RunItemView, type RunView, runItemView, runView } from './run-view.ts';

export interface StartRunOptions extends CallOptions {
  /** Sent as JSON; a `Uint8Array` is sent as it is. */
  readonly input?: unknown;
  /** The same key for the same workflow gives the same run. Lets the start be repeated without harm. */
  readonly idempotencyKey?: string;
  /** With a name: default the newest. */
  readonly version?: number;
  /** Of a durable function: the `version` of its code. Default: the one that a worker registered last. */
  readonly release?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ListRunsOptions extends PageOptions, CallOptions {
  /** Any of these; default all. */
  readonly states?: readonly RunStateName[];
  readonly workflowName?: string;
}

export interface ListItemsOptions extends PageOptions, CallOptions {
  /** Any of these; default all. */
  readonly states?: readonly NodeStateName[];
}

export interface RetryRunOptions extends CallOptions {
  /** From these on, also where they had succeeded: of a durable function, names or numbers of its journal. Default: from what failed. */
  readonly from?: readonly string[];
}

/** Options of a start whose input is known to the compiler. */
export type TypedStartOptions<Input> = Omit<StartRunOptions, 'input'> &
  (undefined extends Input ? { readonly input?: Input } : { readonly input: Input });

type StartArguments<Input> = undefined extends Input
  ? [options?: TypedStartOptions<Input>]
  : [options: TypedStartOptions<Input>];

/** A run that was started, wherever it is now. */
export interface RunHandle<Output = unknown> {
  readonly id: string;
  /**
   * Waits for the end. Throws `RunFailed`, `RunCancelled`, or `BatonError`; bounded only by `options.signal`. The view of a durable function is
   * without its input and its nodes: `status` reads them.
   */
  result(options?: CallOptions): Promise<RunView<Output>>;
  /** Waits for the end and gives the run's output; one that is a blob is fetched and decoded. Throws as `result` does. */
  output(options?: CallOptions): Promise<Output>;
  status(options?: CallOptions): Promise<RunView<Output>>;
  cancel(reason?: string, options?: CallOptions): Promise<RunStateName>;
  /** Sends a durable function a signal: kept until it waits for one of this name. */
  signal(name: string, payload?: unknown, options?: SignalOptions): Promise<void>;
  /**
   * How far the run is, then again at each change, until its end: counts, states, and of the nodes those that have changed, with their
   * outputs. Goes on behind a cursor of an earlier part, also at another client. Connects again by itself.
   */
  stream(options?: StreamRunOptions): AsyncIterable<RunProgress<Output>>;
  /** What the task of a node streams by `ctx.output.write`, as it comes, from when it starts until its end. */
  nodeOutput(nodeId: string, options?: NodeOutputOptions): AsyncIterable<OutputPart>;
  /**
   * The bytes of the run's output, of any size, once it has succeeded, or of a node's once that has: JSON text, or the bytes as they are.
   * From an offset on; connects again by itself.
   */
  outputChunks(options?: OutputChunksOptions): AsyncIterable<OutputChunk>;
  /** Goes on from where the run failed or was cancelled; what had succeeded is kept. */
  retry(options?: RetryRunOptions): Promise<RetriedRun>;
  /** The run now, then again at each change, until its end. */
  watch(options?: CallOptions): AsyncIterable<RunView<Output>>;
}

/** The handle that a start gives. */
export interface StartedRun<Output = unknown> extends RunHandle<Output> {
  /** An earlier start with the same idempotency key made this run. */
  readonly deduplicated: boolean;
}

export interface RetriedRun {
  /** The execution that was opened. */
  readonly execution: number;
  /** The nodes that run again. */
  readonly nodeIds: readonly string[];
}

/** Callers who start one run after the other meet again in one call. */
const START_PATIENCE_MS = 10;
/** One wait for ends of runs at the server; then it is asked anew. */
const WAIT_MS = 20_000;

/** Runs of workflows. Every call rejects with `BatonError`. */
export class Runs {
  readonly #client: Client<typeof WorkflowService>;
  readonly #settings: CallSettings;
  readonly #ends: Ends<Run>;
  readonly #starts: Gatherer<StartRunRequest, StartRunResponse>;
  readonly #blobs: Blobs;
  readonly #reader: RunReader;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(WorkflowService, transport);
    this.#blobs = new Blobs(transport, settings);
    this.#settings = settings;
    this.#reader = {
      runs: this.#client,
      tasks: createClient(TaskService, transport),
      blobs: this.#blobs,
      settings,
      ended: (id, signal) => this.#ends.wait(id, signal),
    };
    const { namespace, timeoutMs } = settings;
    const start = (run: StartRunRequest, signal: AbortSignal) => this.#client.startRun(run, { signal, timeoutMs });
    this.#starts = new Gatherer(
      {
        one: start,
        many: async (runs, signal) => {
          try {
            const { results } = await this.#client.startRuns({ namespace, runs }, { signal, timeoutMs });
            return results.map(({ result }) => (result.case === 'refused' ? refusedItem(result.value) : result.value));
          } catch (thrown) {
            const error = toBatonError(thrown);
            if (error.code !== 'unimplemented') throw error;
            // A master of the version before has no such call.
            return Promise.all(runs.map((run) => start(run, signal).catch(toBatonError)));
          }
        },
        sizeOf: sizeOfStart,
      },
      settings.retry,
      { ...GATHER_LIMITS, patienceMs: START_PATIENCE_MS },
    );
    this.#ends = new Ends({
      call: async (runIds, signal) => {
        const { runs, missing } = await this.#client.waitRuns(
          { namespace, runIds, wait: durationFromMs(WAIT_MS), format: PayloadFormat.TEXT },
          { signal, timeoutMs: WAIT_MS + settings.timeoutMs },
        );
        return { ended: new Map(runs.map((run) => [run.id, run])), missing };
      },
      retry: settings.retry,
      notFound: (id) =>
        new BatonError({ code: 'not_found', reason: 'RUN_NOT_FOUND', message: `there is no run ${id}` }),
    });
  }

  /** Starts a run of a graph, whose definition is stored as a version of its name. */
  start<Input, Output>(
    workflow: StartableGraph<Input, Output>,
    ...options: StartArguments<Input>
  ): Promise<StartedRun<Output>>;
  /** Starts a run of a durable function that workers have registered. */
  start<Input, Output, Sent>(
    workflow: WorkflowFunction<Input, Output, Sent>,
    ...options: StartArguments<Sent>
  ): Promise<StartedRun<Output>>;
  /** Starts a run of the workflow of that name, or of a definition (stored as a version of its own name, then run). */
  start(workflow: string | WorkflowDefinition, options?: StartRunOptions): Promise<StartedRun>;
  async start(
    // biome-ignore lint/suspicious/noExplicitAny: the overloads say which
    workflow: string | WorkflowDefinition | StartableGraph<any, any> | WorkflowFunction<any, any, any>,
    options: StartRunOptions = {},
  ): Promise<StartedRun<never>> {
    const source =
      typeof workflow === 'string'
        ? workflow
        : isGraph(workflow)
          ? workflow.definition
          : isWorkflowFunction(workflow)
            ? workflow.id
            : (workflow as WorkflowDefinition);
    const request = create(StartRunRequestSchema, {
      namespace: this.#settings.namespace,
      workflow:
        typeof source === 'string'
          ? ({ case: 'workflowName', value: source } as const)
          : ({ case: 'definitionJson', value: JSON.stringify(source) } as const),
      version: options.version,
      release: options.release,
      payload: encodeInput(options.input),
      idempotencyKey: options.idempotencyKey,
      labels: { ...options.labels },
    });
    const { signal, timeoutMs = this.#settings.timeoutMs } = options;
    const { runId, deduplicated } = await this.#starts.send(request, { signal, timeoutMs });
    return { ...this.handle<never>(runId), deduplicated };
  }

  /** A handle for a run whose id is known. Asks nobody. */
  handle<Output = unknown>(id: string): RunHandle<Output> {
    return {
      id,
      result: (options) => this.#result(id, options) as Promise<RunView<Output>>,
      output: (options) => this.#output<Output>(id, options),
      status: (options) => this.get(id, options) as Promise<RunView<Output>>,
      cancel: (reason, options) => this.cancel(id, reason, options),
      signal: (name, payload, options) => this.signal(id, name, payload, options),
      retry: (options) => this.retry(id, options),
      watch: (options) => this.watch(id, options) as AsyncIterable<RunView<Output>>,
      stream: (options) => streamRun<Output>(this.#reader, id, options),
      nodeOutput: (nodeId, options) => streamNodeOutput(this.#reader, id, nodeId, options),
      outputChunks: (options) => readOutputChunks(this.#reader, id, options),
    };
  }

  async get(id: string, options?: CallOptions): Promise<RunView> {
    const { namespace } = this.#settings;
    const { run } = await callRepeatably(this.#settings, options, () =>
      this.#client.getRun(
        { namespace, runId: id, format: PayloadFormat.TEXT },
        requestOptions(this.#settings, options),
      ),
    );
    return runView(present(run));
  }

  /** Newest first, without nodes, input and output. */
  list(options?: ListRunsOptions): List<RunView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { runs, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listRuns(
          {
            namespace,
            pageSize,
            pageToken,
            states: options?.states?.map(runStateOf),
            workflowName: options?.workflowName,
          },
          requestOptions(this.#settings, options),
        ),
      );
      return { items: runs.map(runView), nextPageToken };
    });
  }

  /** The items of a node that runs once for each, those that were started, in their order. */
  items(id: string, nodeId: string, options?: ListItemsOptions): List<RunItemView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { items, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listRunItems(
          { namespace, runId: id, nodeId, pageSize, pageToken, states: options?.states?.map(nodeStateOf) },
          requestOptions(this.#settings, options),
        ),
      );
      return { items: items.map(runItemView), nextPageToken };
    });
  }

  /** The run now, then again at each change, until its end. Connects again when the connection breaks. */
  watch(id: string, options?: CallOptions): AsyncIterable<RunView> {
    const { namespace } = this.#settings;
    let last: Run | undefined;
    return reconnecting(this.#settings, options, {
      open: (callOptions) => this.#client.watchRun({ namespace, runId: id, format: PayloadFormat.TEXT }, callOptions),
      take: ({ run }) => {
        // After a new connection the server begins with the run as it is: nothing new, mostly.
        if (run === undefined || (last && equals(RunSchema, last, run))) return { items: [], step: 'more' };
        last = run;
        const view = runView(run);
        return { items: [view], step: isFinalRunState(view.state) ? 'end' : 'more' };
      },
      endsWithServer: false,
    });
  }

  async cancel(id: string, reason = '', options?: CallOptions): Promise<RunStateName> {
    const { namespace } = this.#settings;
    const { state } = await callOnce(() =>
      this.#client.cancelRun({ namespace, runId: id, reason }, requestOptions(this.#settings, options)),
    );
    return runStateName(state);
  }

  /** Rejects for runs that have ended, and for those of graphs. */
  async signal(id: string, name: string, payload?: unknown, options?: SignalOptions): Promise<void> {
    await signalRun(this.#client, this.#settings, id, name, payload, options);
  }

  /** All that a durable function has done and waits for. */
  async journal(id: string, options?: CallOptions): Promise<RunJournal> {
    const { namespace } = this.#settings;
    const entries: JournalEntryView[] = [];
    let first: GetRunJournalResponse | undefined;
    for (;;) {
      const page = await callRepeatably(this.#settings, options, () =>
        this.#client.getRunJournal(
          { namespace, runId: id, afterNumber: entries.at(-1)?.number ?? 0 },
          requestOptions(this.#settings, options),
        ),
      );
      first ??= page;
      for (const entry of page.entries) entries.push(journalEntryView(entry));
      if (!page.more) break;
    }
    return {
      runId: id,
      createTime: optionalDate(first.createTime) ?? new Date(0),
      ...(first.release !== '' && { release: first.release }),
      input: decodeValue(
        first.input && { encoding: first.encoding === PayloadEncoding.BYTES ? 2 : 1, bytes: first.input },
      ),
      entries,
    };
  }

  async retry(id: string, options?: RetryRunOptions): Promise<RetriedRun> {
    const { namespace } = this.#settings;
    const { execution, nodeIds } = await callOnce(() =>
      this.#client.retryRun(
        { namespace, runId: id, fromNodeIds: [...(options?.from ?? [])] },
        requestOptions(this.#settings, options),
      ),
    );
    return { execution, nodeIds };
  }

  async #result(id: string, options: CallOptions | undefined): Promise<RunView> {
    let ended: Run;
    try {
      ended = await this.#ends.wait(id, options?.signal);
    } catch (thrown) {
      // A master of the version before has no such call.
      if (toBatonError(thrown).code !== 'unimplemented') throw thrown;
      return this.#watchedResult(id, options);
    }
    // All there is to say of it has been said; its journal is asked for by who wants it.
    if (ended.form === 'function') return outcomeOf(runView(ended));
    const run = await this.get(id, options);
    // Somebody may have retried it meanwhile.
    return isFinalRunState(run.state) ? outcomeOf(run) : this.#result(id, options);
  }

  async #output<Output>(id: string, options: CallOptions | undefined): Promise<Output> {
    const { output } = await this.#result(id, options);
    if (!isBlobValue(output)) return output as Output;
    const content = this.#blobs.get(output, options);
    return (output.encoding === 'json' ? await content.json() : await content.bytes()) as Output;
  }

  async #watchedResult(id: string, options: CallOptions | undefined): Promise<RunView> {
    for await (const run of this.watch(id, options)) {
      if (isFinalRunState(run.state)) return outcomeOf(run);
    }
    throw new BatonError({ code: 'internal', reason: 'ANSWER_MISSING', message: 'the watch ended before the run' });
  }
}

/** An upper bound of what a start takes on the wire. */
function sizeOfStart({ workflow, payload, idempotencyKey, labels }: StartRunRequest): number {
  let bytes = 200 + 3 * ((workflow.value?.length ?? 0) + idempotencyKey.length) + sizeOfPayload(payload);
  for (const [key, value] of Object.entries(labels)) bytes += 3 * (key.length + value.length) + 8;
  return bytes;
}

function outcomeOf(run: RunView): RunView {
  if (run.state === 'failed') throw new RunFailed(run);
  if (run.state === 'cancelled') throw new RunCancelled(run);
  return run;
}
