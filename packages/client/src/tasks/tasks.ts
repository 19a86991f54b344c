import {
  type GetTaskResponse,
  PayloadFormat,
  type SubmitTaskResponse,
  type Task,
  type TaskEnd,
  TaskSchema,
  TaskService,
  type TaskSpec,
  WorkflowService,
} from '@baton/contract';
import { equals } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import {
  type CallOptions,
  type CallSettings,
  callOnce,
  callRepeatably,
  canceled,
  isPassing,
  pauseBeforeRetry,
  requestOptions,
} from '../calls/call.ts';
import { Ends } from '../calls/ends.ts';
import { BatonError, toBatonError } from '../calls/error.ts';
import { Gatherer, refusedItem } from '../calls/gather.ts';
import { type List, listOf, type PageOptions } from '../calls/pages.ts';
import { reconnecting } from '../calls/reconnect.ts';
import { type BlobValue, isBlobValue, type ResultOf } from '../data/blob-value.ts';
import { Blobs } from '../data/blobs.ts';
import { type ExplanationView, explanationView } from '../explanation.ts';
import { type SignalOptions, signalRun } from '../runs/run-signal.ts';
import { isFinalTaskState, type TaskStateName, taskStateName, taskStateOf } from '../words.ts';
import { parseWith, SchemaMismatch } from '../workflows/standard-schema.ts';
import {
  type DeadTaskView,
  type FailureRecordView,
  type FailureStatisticsView,
  type ListDeadOptions,
  type ListFailuresOptions,
  listDead,
  listFailures,
  type ResendOptions,
  type Resent,
  readFailureStatistics,
  resendTasks,
} from './failures.ts';
import { TaskCancelled, TaskFailed } from './outcome.ts';
import { decodePayload } from './payload.ts';
import type { TaskDefinition } from './task.ts';
import { type SubmitOptions, sizeOfTask, type TaskSubmission, taskSpecOf } from './task-spec.ts';
import {
  type OutputOptions,
  type OutputPart,
  type ResultBatch,
  type ResultBatchesOptions,
  type ResultsOptions,
  readHistory,
  streamOutput,
  streamResults,
  type TaskHistory,
} from './task-streams.ts';
import { type AttemptView, attemptView, type LogLineView, logLineView, type TaskView, taskView } from './task-view.ts';

/** How long one `GetTask` of a `result()` waits at the server. */
const LONG_POLL_MS = 20_000;
/** Tasks may be short: who comes later is asked for soon. */
const END_PATIENCE_MS = 4;

/** A task with everything that happened to it. */
export interface TaskDetails<Output = unknown> extends TaskView<Output> {
  readonly attempts: readonly AttemptView[];
}

export interface ListTasksOptions extends PageOptions, CallOptions {
  /** Any of these; default all. */
  readonly states?: readonly TaskStateName[];
  readonly queue?: string;
  readonly kind?: string;
}

export interface LogOptions extends CallOptions {
  /** Stay until the task has ended and all of its lines are here. */
  readonly follow?: boolean;
}

/** A task that was submitted, wherever it is now. */
export interface TaskHandle<Output = unknown> {
  readonly id: string;
  /** Waits for the end; an output that is a blob is fetched and decoded. Throws `TaskFailed`, `TaskCancelled`, or `BatonError`; bounded only by `options.signal`. */
  result(options?: CallOptions): Promise<Output>;
  status(options?: CallOptions): Promise<TaskDetails<Output>>;
  /** Asks for the end of the task; gives its state: cancelled, or leased while its worker is asked to stop. */
  cancel(reason?: string, options?: CallOptions): Promise<TaskStateName>;
  /** What the task wrote, oldest first. */
  logs(options?: LogOptions): AsyncIterable<LogLineView>;
  /** What the task streams by `ctx.output.write`, as it comes, until its end. Connects again by itself, without loss or repetition. */
  output(options?: OutputOptions): AsyncIterable<OutputPart>;
  /** The same as `output`: every handle has `stream`. */
  stream(options?: OutputOptions): AsyncIterable<OutputPart>;
  /**
   * Sends the run of a durable function a signal, where this is the task that drives it. No other task waits for signals: then it rejects
   * with failed_precondition, TASK_NOT_SIGNALLABLE.
   */
  signal(name: string, payload?: unknown, options?: SignalOptions): Promise<void>;
  /** Everything that happened to the task, oldest first. */
  history(options?: CallOptions): Promise<TaskHistory>;
  /** Why the task does not run, and what would change that. */
  explain(options?: CallOptions): Promise<ExplanationView>;
  /** The task now, then again at each change, until its end. */
  watch(options?: CallOptions): AsyncIterable<TaskView<Output>>;
}

/** The handle that a submit gives. */
export interface SubmittedTask<Output = unknown> extends TaskHandle<Output> {
  /** An earlier submit with the same idempotency key made this task. */
  readonly deduplicated: boolean;
}

/** Tasks. Every call rejects with `BatonError`. */
export class Tasks {
  readonly #client: Client<typeof TaskService>;
  readonly #runs: Client<typeof WorkflowService>;
  readonly #settings: CallSettings;
  readonly #gatherer: Gatherer<TaskSpec, SubmitTaskResponse>;
  readonly #ends: Ends<TaskEnd>;
  readonly #blobs: Blobs;

  constructor(transport: Transport, settings: CallSettings) {
    const client = createClient(TaskService, transport);
    const { namespace } = settings;
    this.#blobs = new Blobs(transport, settings);
    this.#client = client;
    this.#runs = createClient(WorkflowService, transport);
    this.#settings = settings;
    const { timeoutMs } = settings;
    this.#gatherer = new Gatherer(
      {
        one: (task, signal) => client.submitTask({ namespace, task }, { signal, timeoutMs }),
        many: async (tasks, signal) => {
          const { results } = await client.submitTasks({ namespace, tasks }, { signal, timeoutMs });
          return results.map(({ result }) => (result.case === 'refused' ? refusedItem(result.value) : result.value));
        },
        sizeOf: sizeOfTask,
      },
      settings.retry,
    );
    this.#ends = new Ends({
      call: async (taskIds, signal) => {
        const { ends, missing } = await client.waitTasks(
          { namespace, taskIds, wait: durationFromMs(LONG_POLL_MS), format: PayloadFormat.TEXT },
          { signal, timeoutMs: LONG_POLL_MS + timeoutMs },
        );
        return { ended: new Map(ends.map((end) => [end.taskId, end])), missing };
      },
      retry: settings.retry,
      notFound: (id) =>
        new BatonError({
          code: 'not_found',
          reason: 'TASK_NOT_FOUND',
          message: `task ${id} does not exist in this namespace`,
        }),
      patienceMs: END_PATIENCE_MS,
    });
  }

  /**
   * Submits a task of any kind. Submits of one tick leave in one call. Repeated while the server is unavailable only
   * with an idempotency key.
   */
  async submit<Output = unknown>(submission: TaskSubmission): Promise<SubmittedTask<Output>> {
    const { signal, timeoutMs = this.#settings.timeoutMs } = submission;
    const { taskId, deduplicated } = await this.#gatherer.send(taskSpecOf(submission), { signal, timeoutMs });
    const result = (options?: CallOptions) => this.#result<Output>(taskId, options, true);
    return { ...this.handle<Output>(taskId), result, deduplicated };
  }

  /** Submits a task that was defined by `task`; its policy counts where `options` say nothing. */
  async enqueue<Input, Output, Sent>(
    definition: TaskDefinition<Input, Output, Sent>,
    input: NoInfer<Sent> | BlobValue<NoInfer<Sent>>,
    options: SubmitOptions = {},
  ): Promise<SubmittedTask<ResultOf<Output>>> {
    try {
      // Only to refuse early: the worker applies the schema itself, so what is sent is what the caller gave.
      if (!isBlobValue(input)) await parseWith(definition.input, input, `input of task "${definition.id}"`);
    } catch (thrown) {
      if (!(thrown instanceof SchemaMismatch)) throw thrown;
      throw new BatonError({
        code: 'invalid_argument',
        reason: 'INPUT_INVALID',
        message: thrown.message,
        violations: thrown.issues.map(({ path, message }) => ({ field: path, description: message })),
        cause: thrown,
      });
    }
    const { queue, taskClass, tags, retry, startToCloseTimeoutMs, priority, resources, requires } = definition;
    return this.submit<ResultOf<Output>>({
      queue,
      taskClass,
      tags,
      retry,
      startToCloseTimeoutMs,
      priority,
      resources,
      requires,
      ...definedOnly(options),
      kind: definition.id,
      input,
    });
  }

  /** A handle for a task whose id is known. Asks nobody. */
  handle<Output = unknown>(id: string): TaskHandle<Output> {
    return {
      id,
      result: (options) => this.#result<Output>(id, options, false),
      status: (options) => this.get<Output>(id, options),
      cancel: (reason, options) => this.cancel(id, reason, options),
      logs: (options) => this.logs(id, options),
      output: (options) => this.output(id, options),
      stream: (options) => this.output(id, options),
      signal: (name, payload, options) => this.#signal(id, name, payload, options),
      history: (options) => this.history(id, options),
      explain: (options) => this.explain(id, options),
      watch: (options) => this.watch<Output>(id, options),
    };
  }

  async get<Output = unknown>(id: string, options?: CallOptions): Promise<TaskDetails<Output>> {
    return detailsOf<Output>(await callRepeatably(this.#settings, options, () => this.#get(id, 0, options)));
  }

  /** Newest first, without input and output. */
  list(options?: ListTasksOptions): List<TaskView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { tasks, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listTasks(
          {
            namespace,
            pageSize,
            pageToken,
            states: options?.states?.map(taskStateOf),
            queue: options?.queue,
            kind: options?.kind,
          },
          requestOptions(this.#settings, options),
        ),
      );
      return { items: tasks.map((task) => taskView(task)), nextPageToken };
    });
  }

  /** The task now, then again at each change, until its end. Connects again when the connection breaks. */
  watch<Output = unknown>(id: string, options?: CallOptions): AsyncIterable<TaskView<Output>> {
    const { namespace } = this.#settings;
    let last: Task | undefined;
    return reconnecting(this.#settings, options, {
      open: (callOptions) => this.#client.watchTask({ namespace, taskId: id, format: PayloadFormat.TEXT }, callOptions),
      take: ({ task }) => {
        // After a new connection the server begins with the task as it is: nothing new, mostly.
        if (task === undefined || (last && equals(TaskSchema, last, task))) return { items: [], step: 'more' };
        last = task;
        const view = taskView<Output>(task);
        return { items: [view], step: isFinalTaskState(view.state) ? 'end' : 'more' };
      },
      endsWithServer: false,
    });
  }

  async cancel(id: string, reason = '', options?: CallOptions): Promise<TaskStateName> {
    const { namespace } = this.#settings;
    const { state } = await callOnce(() =>
      this.#client.cancelTask({ namespace, taskId: id, reason }, requestOptions(this.#settings, options)),
    );
    return taskStateName(state);
  }

  logs(id: string, options?: LogOptions): AsyncIterable<LogLineView> {
    const { namespace } = this.#settings;
    let cursor = '';
    return reconnecting(this.#settings, options, {
      open: (callOptions) =>
        this.#client.streamTaskLogs({ namespace, taskId: id, follow: options?.follow ?? false, cursor }, callOptions),
      take: (message) => {
        cursor = message.cursor || cursor;
        return { items: message.logs.map(logLineView), step: 'more' };
      },
      endsWithServer: true,
    });
  }

  /** What a task streams; see `TaskHandle.output`. */
  output(id: string, options?: OutputOptions): AsyncIterable<OutputPart> {
    return streamOutput(this.#client, this.#settings, id, options);
  }

  /**
   * Ends of these tasks (at most 10 000), each once, as they come; ends when all of them have ended. Connects again by itself. With
   * their outputs, without their inputs; a task that failed or was cancelled is given as it is.
   */
  async *results<Output = unknown>(
    ids: readonly string[],
    options?: ResultsOptions,
  ): AsyncGenerator<TaskView<Output>, void, undefined> {
    if (ids.length === 0) return;
    for await (const { tasks } of this.resultBatches({ ...options, taskIds: ids })) yield* tasks as TaskView<Output>[];
  }

  /**
   * Ends of tasks with the cursor to go on from, for programs that outlive themselves; of all tasks of the namespace without `taskIds`.
   * Throws `BatonError` failed_precondition CURSOR_EXPIRED when history no longer reaches back to the cursor.
   */
  resultBatches(options: ResultBatchesOptions = {}): AsyncIterable<ResultBatch> {
    return streamResults(this.#client, this.#settings, options);
  }

  /** Everything that happened to a task, oldest first. */
  history(id: string, options?: CallOptions): Promise<TaskHistory> {
    return readHistory(this.#client, this.#settings, id, options);
  }

  /** Why a task does not run, and what would change that; of one that runs or has ended, so much. */
  async explain(id: string, options?: CallOptions): Promise<ExplanationView> {
    const { namespace } = this.#settings;
    return explanationView(
      await callRepeatably(this.#settings, options, () =>
        this.#client.explainTask({ namespace, taskId: id }, requestOptions(this.#settings, options)),
      ),
    );
  }

  /** Each failed attempt as a record, newest first. */
  failures(options?: ListFailuresOptions): List<FailureRecordView> {
    return listFailures(this.#client, this.#settings, options);
  }

  /** What failed within the last time. `windowMs`: default 1 h, at most 30 days. */
  failureStatistics(options?: CallOptions & { readonly windowMs?: number }): Promise<FailureStatisticsView> {
    return readFailureStatistics(this.#client, this.#settings, options?.windowMs, options);
  }

  /** Tasks that failed for good and were not sent again, newest first. */
  dead(options?: ListDeadOptions): List<DeadTaskView> {
    return listDead(this.#client, this.#settings, options);
  }

  /**
   * Sends ended tasks again, each as a new task whose `retryOf` names the old one; what was the end does not matter. Sending one twice
   * gives the same new task. In the order given, each with its own refusal (TASK_NOT_FOUND, TASK_NOT_ENDED).
   */
  resend(ids: readonly string[], options?: ResendOptions): Promise<Resent[]> {
    return resendTasks(this.#client, this.#settings, ids, options);
  }

  async #signal(id: string, name: string, payload: unknown, options: SignalOptions | undefined): Promise<void> {
    const { runId, nodeId } = await this.get(id, options);
    if (runId === undefined || nodeId !== undefined)
      throw new BatonError({
        code: 'failed_precondition',
        reason: 'TASK_NOT_SIGNALLABLE',
        message: `task ${id} waits for no signals; only runs of durable functions do`,
      });
    await signalRun(this.#runs, this.#settings, runId, name, payload, options);
  }

  /** @param isKnown a server has spoken of the task: one that restarts is no reason to give up on it. Else a few tries are all. */
  async #result<Output>(id: string, options: CallOptions | undefined, isKnown: boolean): Promise<Output> {
    let end: TaskEnd;
    try {
      end = await this.#ends.wait(id, options?.signal, isKnown);
    } catch (thrown) {
      // A master of the version before has no such call.
      if (toBatonError(thrown).code !== 'unimplemented') throw thrown;
      return this.#polledResult(id, options, isKnown);
    }
    const state = taskStateName(end.state);
    if (state === 'succeeded') return this.#outputOf<Output>(decodePayload(end.outputPayload), options);
    const details = await this.get<Output>(id, options);
    if (state === 'failed') throw new TaskFailed(details, details.attempts);
    throw new TaskCancelled(details);
  }

  async #polledResult<Output>(id: string, options: CallOptions | undefined, isKnown: boolean): Promise<Output> {
    const { retry } = this.#settings;
    let wasSeen = isKnown;
    let failures = 0;
    let silentSince = 0;
    for (;;) {
      let response: GetTaskResponse;
      try {
        response = await this.#get(id, LONG_POLL_MS, options);
      } catch (thrown) {
        const error = toBatonError(thrown);
        failures += 1;
        if (failures === 1) silentSince = performance.now();
        const isOver = wasSeen ? performance.now() - silentSince > retry.reconnectMs : failures >= retry.attempts;
        if (!isPassing(error) || isOver) throw error;
        await pauseBeforeRetry(retry, failures, error, options?.signal);
        continue;
      }
      wasSeen = true;
      failures = 0;
      const details = detailsOf<Output>(response);
      if (details.state === 'succeeded') return this.#outputOf<Output>(details.output, options);
      if (details.state === 'failed') throw new TaskFailed(details, details.attempts);
      if (details.state === 'cancelled') throw new TaskCancelled(details);
      if (options?.signal?.aborted) throw canceled(options.signal.reason);
    }
  }

  /** What the task returned; a blob is fetched and read as it says. */
  async #outputOf<Output>(output: unknown, options: CallOptions | undefined): Promise<Output> {
    if (!isBlobValue(output)) return output as Output;
    const content = this.#blobs.get(output, options);
    return (output.encoding === 'json' ? await content.json() : await content.bytes()) as Output;
  }

  #get(id: string, waitMs: number, options: CallOptions | undefined): Promise<GetTaskResponse> {
    const { namespace } = this.#settings;
    const wait = waitMs > 0 ? durationFromMs(waitMs) : undefined;
    return this.#client.getTask(
      { namespace, taskId: id, wait, format: PayloadFormat.TEXT },
      requestOptions(this.#settings, options, waitMs),
    );
  }
}

function detailsOf<Output>(response: GetTaskResponse): TaskDetails<Output> {
  if (response.task === undefined) {
    throw new BatonError({
      code: 'internal',
      reason: 'ANSWER_MISSING',
      message: 'the server answered without the task',
    });
  }
  return { ...taskView<Output>(response.task), attempts: response.attempts.map(attemptView) };
}

/** Without the entries that are undefined: spread over defaults, they would wipe them out. */
function definedOnly<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
