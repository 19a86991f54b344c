import {
  type DeadTask,
  type FailureRecord,
  FailureType,
  type SubmitTaskResult,
  type TaskService,
} from '@baton/contract';
import { durationFromMs, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { Client } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { type List, listOf, type PageOptions } from '../calls/pages.ts';
import { optionalDate, optionalMs } from '../calls/time.ts';
import {
  type AttemptStateName,
  attemptStateName,
  type FailureTypeName,
  failureTypeName,
  type TaskStateName,
  taskStateName,
} from '../words.ts';
import { type FailureView, failureView, type TaskView, taskView } from './task-view.ts';

/** A failed attempt as a record. */
export interface FailureRecordView extends FailureView {
  readonly time?: Date;
  readonly taskId: string;
  readonly kind: string;
  readonly queue: string;
  readonly attempt: number;
  readonly epoch: number;
  readonly worker: string;
  /** failed, or lost with its worker. */
  readonly attemptState: AttemptStateName;
  /** The task succeeded after it. */
  readonly recovered: boolean;
  /** Where the task stands now. */
  readonly taskState: TaskStateName;
  /** The delay chosen before the next attempt. */
  readonly retryDelayMs?: number;
}

export interface ListFailuresOptions extends PageOptions, CallOptions {
  /** Of one worker, or of one task: not both. */
  readonly worker?: string;
  readonly taskId?: string;
  /** Any of these; default all. */
  readonly types?: readonly FailureTypeName[];
  readonly since?: Date;
}

export interface FailureStatisticsView {
  readonly failures: number;
  readonly byType: readonly { readonly type: FailureTypeName; readonly count: number }[];
  /** The worst first, at most 100. `machineMade`: WORKER_CRASH, NETWORK_ERROR, GPU_ERROR. */
  readonly byWorker: readonly { readonly worker: string; readonly count: number; readonly machineMade: number }[];
  /** Tasks with a failed attempt; of these, those that */
  readonly tasksAffected: number;
  /** succeeded afterwards, */
  readonly tasksRecovered: number;
  /** failed for good, */
  readonly tasksFailed: number;
  /** or are under way still. The rest was cancelled. */
  readonly tasksOpen: number;
  readonly workersAffected: number;
  /** Breakers that are open or half-open now. */
  readonly breakersOpen: number;
}

/** A task that failed for good. */
export interface DeadTaskView {
  /** Without input and output. */
  readonly task: TaskView;
  /** The newest task that sends it again. */
  readonly resentAs?: string;
}

export interface ListDeadOptions extends PageOptions, CallOptions {
  readonly queue?: string;
  readonly kind?: string;
  /** Any of these; default all. */
  readonly types?: readonly FailureTypeName[];
  /** Also those that were sent again. */
  readonly includeResent?: boolean;
}

export interface ResendOptions extends CallOptions {
  /** The same key gives the same new tasks, another one sends them once more. Default: once for all. */
  readonly idempotencyKey?: string;
}

/** What became of one task that was to be sent again. */
export type Resent =
  | {
      readonly of: string;
      readonly taskId: string /** It had been sent again before. */;
      readonly deduplicated: boolean;
    }
  | {
      readonly of: string;
      readonly refused: { readonly code: string; readonly reason: string; readonly message: string };
    };

type TaskClient = Client<typeof TaskService>;

/** Tasks in one call of ResendTasks. */
const RESEND_AT_ONCE = 1_000;

export function listFailures(
  client: TaskClient,
  settings: CallSettings,
  options?: ListFailuresOptions,
): List<FailureRecordView> {
  const { namespace } = settings;
  const { worker, taskId, since } = options ?? {};
  return listOf(options, async (pageSize, pageToken) => {
    const { failures, nextPageToken } = await callRepeatably(settings, options, () =>
      client.listFailures(
        {
          namespace,
          pageSize,
          pageToken,
          worker,
          taskId,
          types: typesOf(options?.types),
          since: since && timestampFromDate(since),
        },
        requestOptions(settings, options),
      ),
    );
    return { items: failures.map(recordView), nextPageToken };
  });
}

/** `windowMs`: how far back; default 1 h, at most 30 days. */
export async function readFailureStatistics(
  client: TaskClient,
  settings: CallSettings,
  windowMs: number | undefined,
  options?: CallOptions,
): Promise<FailureStatisticsView> {
  const { namespace } = settings;
  const window = windowMs === undefined ? undefined : durationFromMs(windowMs);
  const found = await callRepeatably(settings, options, () =>
    client.getFailureStatistics({ namespace, window }, requestOptions(settings, options)),
  );
  return {
    failures: Number(found.failures),
    byType: found.byType.map(({ type, count }) => ({ type: failureTypeName(type), count: Number(count) })),
    byWorker: found.byWorker.map(({ worker, count, machineMade }) => ({
      worker,
      count: Number(count),
      machineMade: Number(machineMade),
    })),
    tasksAffected: Number(found.tasksAffected),
    tasksRecovered: Number(found.tasksRecovered),
    tasksFailed: Number(found.tasksFailed),
    tasksOpen: Number(found.tasksOpen),
    workersAffected: Number(found.workersAffected),
    breakersOpen: found.breakersOpen,
  };
}

export function listDead(client: TaskClient, settings: CallSettings, options?: ListDeadOptions): List<DeadTaskView> {
  const { namespace } = settings;
  const { queue, kind, includeResent } = options ?? {};
  return listOf(options, async (pageSize, pageToken) => {
    const { tasks, nextPageToken } = await callRepeatably(settings, options, () =>
      client.listDeadTasks(
        { namespace, pageSize, pageToken, queue, kind, types: typesOf(options?.types), includeResent },
        requestOptions(settings, options),
      ),
    );
    return { items: tasks.map(deadView), nextPageToken };
  });
}

/** In the order given; repeated without harm while the server is unavailable. */
export async function resendTasks(
  client: TaskClient,
  settings: CallSettings,
  ids: readonly string[],
  options?: ResendOptions,
): Promise<Resent[]> {
  const { namespace } = settings;
  const resent: Resent[] = [];
  for (let from = 0; from < ids.length; from += RESEND_AT_ONCE) {
    const taskIds = ids.slice(from, from + RESEND_AT_ONCE);
    const { results } = await callRepeatably(settings, options, () =>
      client.resendTasks(
        { namespace, taskIds, idempotencyKey: options?.idempotencyKey },
        requestOptions(settings, options),
      ),
    );
    resent.push(...results.map((result, i) => resentView(taskIds[i]!, result)));
  }
  return resent;
}

function resentView(of: string, { result }: SubmitTaskResult): Resent {
  if (result.case === 'submitted') return { of, taskId: result.value.taskId, deduplicated: result.value.deduplicated };
  const {
    code = 'internal',
    reason = 'ANSWER_MISSING',
    message = 'the server said nothing of it',
  } = result.value ?? {};
  return { of, refused: { code, reason, message } };
}

function typesOf(types: readonly FailureTypeName[] | undefined): FailureType[] | undefined {
  return types?.map((type) => FailureType[type]);
}

function deadView({ task, resentAs }: DeadTask): DeadTaskView {
  return { task: taskView(task!), resentAs: resentAs || undefined };
}

function recordView(record: FailureRecord): FailureRecordView {
  const { failure } = record;
  return {
    ...(failure ? failureView(failure) : { type: 'UNKNOWN', message: '', nonRetryable: false }),
    time: optionalDate(record.time),
    taskId: record.taskId,
    kind: record.kind,
    queue: record.queue,
    attempt: record.attempt,
    epoch: record.epoch,
    worker: record.worker,
    attemptState: attemptStateName(record.attemptState),
    recovered: record.recovered,
    taskState: taskStateName(record.taskState),
    retryDelayMs: optionalMs(record.retryDelay),
  };
}
