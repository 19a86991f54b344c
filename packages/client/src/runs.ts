import { PayloadFormat, type Run, RunSchema, WorkflowService } from '@baton/contract';
import { equals } from '@bufbuild/protobuf';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callOnce, callRepeatably, requestOptions } from './call.ts';
import { BatonError } from './error.ts';
import { RunCancelled, RunFailed } from './outcome.ts';
import { type List, listOf, type PageOptions } from './pages.ts';
import { encodeInput } from './payload.ts';
import { reconnecting } from './reconnect.ts';
import { type RunView, runView } from './run-view.ts';
import { isFinalRunState, type RunStateName, runStateName, runStateOf } from './words.ts';
import { present, type WorkflowDefinition } from './workflows.ts';

export interface StartRunOptions extends CallOptions {
  /** Sent as JSON; a `Uint8Array` is sent as it is. */
  readonly input?: unknown;
  /** The same key for the same workflow gives the same run. Lets the start be repeated without harm. */
  readonly idempotencyKey?: string;
  /** With a name: default the newest. */
  readonly version?: number;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ListRunsOptions extends PageOptions, CallOptions {
  /** Any of these; default all. */
  readonly states?: readonly RunStateName[];
  readonly workflowName?: string;
}

/** A run that was started, wherever it is now. */
export interface RunHandle {
  readonly id: string;
  /** Waits for the end. Throws `RunFailed`, `RunCancelled`, or `BatonError`; bounded only by `options.signal`. */
  result(options?: CallOptions): Promise<RunView>;
  status(options?: CallOptions): Promise<RunView>;
  cancel(reason?: string, options?: CallOptions): Promise<RunStateName>;
  /** Goes on from where the run failed or was cancelled; what had succeeded is kept. */
  retry(options?: CallOptions): Promise<RetriedRun>;
  /** The run now, then again at each change, until its end. */
  watch(options?: CallOptions): AsyncIterable<RunView>;
}

/** The handle that a start gives. */
export interface StartedRun extends RunHandle {
  /** An earlier start with the same idempotency key made this run. */
  readonly deduplicated: boolean;
}

export interface RetriedRun {
  /** The execution that was opened. */
  readonly execution: number;
  /** The nodes that run again. */
  readonly nodeIds: readonly string[];
}

/** Runs of workflows. Every call rejects with `BatonError`. */
export class Runs {
  readonly #client: Client<typeof WorkflowService>;
  readonly #settings: CallSettings;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(WorkflowService, transport);
    this.#settings = settings;
  }

  /** Starts a run of the workflow of that name, or of a definition (stored as a version of its own name, then run). */
  async start(workflow: string | WorkflowDefinition, options: StartRunOptions = {}): Promise<StartedRun> {
    const request = {
      namespace: this.#settings.namespace,
      workflow:
        typeof workflow === 'string'
          ? ({ case: 'workflowName', value: workflow } as const)
          : ({ case: 'definitionJson', value: JSON.stringify(workflow) } as const),
      version: options.version,
      payload: encodeInput(options.input),
      idempotencyKey: options.idempotencyKey,
      labels: { ...options.labels },
    };
    const send = () => this.#client.startRun(request, requestOptions(this.#settings, options));
    const { runId, deduplicated } = await (options.idempotencyKey
      ? callRepeatably(this.#settings, options, send)
      : callOnce(send));
    return { ...this.handle(runId), deduplicated };
  }

  /** A handle for a run whose id is known. Asks nobody. */
  handle(id: string): RunHandle {
    return {
      id,
      result: (options) => this.#result(id, options),
      status: (options) => this.get(id, options),
      cancel: (reason, options) => this.cancel(id, reason, options),
      retry: (options) => this.retry(id, options),
      watch: (options) => this.watch(id, options),
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

  async retry(id: string, options?: CallOptions): Promise<RetriedRun> {
    const { namespace } = this.#settings;
    const { execution, nodeIds } = await callOnce(() =>
      this.#client.retryRun({ namespace, runId: id }, requestOptions(this.#settings, options)),
    );
    return { execution, nodeIds };
  }

  async #result(id: string, options: CallOptions | undefined): Promise<RunView> {
    for await (const run of this.watch(id, options)) {
      if (run.state === 'succeeded') return run;
      if (run.state === 'failed') throw new RunFailed(run);
      if (run.state === 'cancelled') throw new RunCancelled(run);
    }
    throw new BatonError({ code: 'internal', reason: 'ANSWER_MISSING', message: 'the watch ended before the run' });
  }
}
