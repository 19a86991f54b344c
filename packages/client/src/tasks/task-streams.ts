import { type HistoryEntry, PayloadFormat, type TaskService } from '@baton/contract';
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { Client } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { BatonError } from '../calls/error.ts';
import { reconnecting } from '../calls/reconnect.ts';
import { optionalDate } from '../calls/time.ts';
import { type AttemptStateName, attemptStateName, type TaskStateName, taskStateName } from '../words.ts';
import { type FailureView, failureView, type TaskView, taskView } from './task-view.ts';

/** A place in what a task streams: behind so many bytes of an attempt. */
export interface OutputPlace {
  readonly attempt: number;
  readonly offset: number;
  /** Names the attempt where its number does not: a lease that was handed back gives its number to the next. Default: the newest. */
  readonly epoch?: number;
}

export interface OutputOptions extends CallOptions {
  /** Go on behind this place; `end` of an earlier part. Default: the beginning of the newest attempt. */
  readonly from?: OutputPlace;
  /** Stay until the task has ended and all of its output is here. Default true. */
  readonly follow?: boolean;
}

/** A part of what a task streams. */
export interface OutputPart {
  readonly attempt: number;
  readonly epoch: number;
  /** Of the first byte of `data`, counted from the attempt's beginning. */
  readonly offset: number;
  readonly data: Uint8Array;
  /** A new attempt begins: what came before is void. */
  readonly reset: boolean;
  /** Where to go on from. */
  readonly end: OutputPlace;
}

export interface ResultsOptions extends CallOptions {
  /** Begin with those that have ended already. Default true. */
  readonly includeCompleted?: boolean;
}

export interface ResultBatchesOptions extends ResultsOptions {
  /** At most 10 000. Default: all of the namespace; then the stream has no end, and `includeCompleted` is false by default. */
  readonly taskIds?: readonly string[];
  /** Go on behind this; from an earlier batch. */
  readonly cursor?: string;
}

/** Ends of tasks that came together; `cursor` stands behind the last of them. Empty when only the cursor moved. */
export interface ResultBatch {
  /** With their outputs, without their inputs. */
  readonly tasks: readonly TaskView[];
  readonly cursor: string;
}

/** One thing that happened to a task. */
export interface HistoryEntryView {
  readonly time?: Date;
  /** submitted, ready, granted, started, progress, checkpoint, cancel_requested, attempt_ended, backoff, ended, resent. */
  readonly what: string;
  /** The task's state from then on, where it changed. */
  readonly state?: TaskStateName;
  readonly attempt?: number;
  readonly epoch?: number;
  readonly worker?: string;
  readonly attemptState?: AttemptStateName;
  readonly failure?: FailureView;
  /** The delay chosen before the next attempt. */
  readonly retryDelayMs?: number;
  /** Number of a checkpoint. */
  readonly checkpoint?: string;
  readonly message: string;
}

export interface TaskHistory {
  /** Without input and output. */
  readonly task: TaskView;
  /** Oldest first. */
  readonly entries: readonly HistoryEntryView[];
}

type Tasks = Client<typeof TaskService>;

/** See `TaskHandle.output`. */
export function streamOutput(
  client: Tasks,
  settings: CallSettings,
  taskId: string,
  options: OutputOptions | undefined,
): AsyncIterable<OutputPart> {
  const { namespace } = settings;
  let place: OutputPlace | undefined = options?.from;
  return reconnecting(settings, options, {
    open: (callOptions) =>
      client.streamTaskOutput(
        {
          namespace,
          taskId,
          follow: options?.follow ?? true,
          attempt: place?.attempt ?? 0,
          epoch: place?.epoch ?? 0,
          offset: BigInt(place?.offset ?? 0),
        },
        callOptions,
      ),
    take: ({ attempt, epoch, offset, data, reset }) => {
      // A sign of life.
      if (data.length === 0 && !reset) return { items: [], step: 'more' };
      const end = { attempt, epoch, offset: Number(offset) + data.length };
      place = end;
      return { items: [{ attempt, epoch, offset: Number(offset), data, reset, end }], step: 'more' };
    },
    endsWithServer: true,
  });
}

/** See `Tasks.resultBatches`. */
export function streamResults(
  client: Tasks,
  settings: CallSettings,
  options: ResultBatchesOptions,
): AsyncIterable<ResultBatch> {
  const { namespace } = settings;
  const taskIds = [...(options.taskIds ?? [])];
  let cursor = options.cursor ?? '';
  return reconnecting(settings, options, {
    open: (callOptions) =>
      client.streamTaskResults(
        {
          namespace,
          taskIds,
          includeCompleted: options.includeCompleted ?? taskIds.length > 0,
          cursor,
          format: PayloadFormat.TEXT,
        },
        callOptions,
      ),
    take: (message) => {
      const isNew = message.tasks.length > 0 || message.cursor !== cursor;
      cursor = message.cursor || cursor;
      return { items: isNew ? [{ tasks: message.tasks.map((task) => taskView(task)), cursor }] : [], step: 'more' };
    },
    endsWithServer: taskIds.length > 0,
  });
}

/** See `Tasks.history`. */
export async function readHistory(
  client: Tasks,
  settings: CallSettings,
  taskId: string,
  options: CallOptions | undefined,
): Promise<TaskHistory> {
  const { namespace } = settings;
  const { task, entries } = await callRepeatably(settings, options, () =>
    client.getTaskHistory({ namespace, taskId }, requestOptions(settings, options)),
  );
  if (task === undefined) {
    throw new BatonError({
      code: 'internal',
      reason: 'ANSWER_MISSING',
      message: 'the server answered without the task',
    });
  }
  return { task: taskView(task), entries: entries.map(entryView) };
}

function entryView(entry: HistoryEntry): HistoryEntryView {
  return {
    time: optionalDate(entry.time),
    what: entry.what,
    state: entry.state ? taskStateName(entry.state) : undefined,
    attempt: entry.attempt || undefined,
    epoch: entry.epoch || undefined,
    worker: entry.worker || undefined,
    attemptState: entry.attemptState ? attemptStateName(entry.attemptState) : undefined,
    failure: entry.failure && failureView(entry.failure),
    retryDelayMs: entry.retryDelay && durationMs(entry.retryDelay),
    checkpoint: entry.checkpoint === 0n ? undefined : String(entry.checkpoint),
    message: entry.message,
  };
}
