import { type LogLine, WorkerService } from '@baton/contract';
import { createClient, type Transport } from '@connectrpc/connect';
import type { CallOptions, CallSettings } from './calls/call.ts';
import { reconnecting } from './calls/reconnect.ts';
import { optionalDate } from './calls/time.ts';
import type { LogLineView } from './tasks/task-view.ts';

export interface WorkerLogOptions extends CallOptions {
  /** Of this task alone; then a followed stream ends when it runs there no more. Default: all. */
  readonly taskId?: string;
  /** Stay, and go on as lines are written. Default false: what the worker has in memory. */
  readonly follow?: boolean;
  /** Begin with so many of the newest lines that it has in memory, at most 10 000. Default: all, and none with `follow`. */
  readonly recent?: number;
}

/** A line as the worker's memory has it. */
export interface WorkerLogLine extends LogLineView {
  /** Lines before this one that were in memory no longer when their turn came. The master keeps them. */
  readonly skipped?: number;
}

/** See `Workers.logs`. */
export function streamWorkerLogs(
  transport: Transport,
  settings: CallSettings,
  { taskId = '', follow = false, recent, ...options }: WorkerLogOptions,
): AsyncIterable<WorkerLogLine> {
  const client = createClient(WorkerService, transport);
  let cursor = '';
  return reconnecting(settings, options, {
    open: (callOptions) => client.streamLogs({ taskId, follow, recent, cursor }, callOptions),
    take: (message) => {
      cursor = message.cursor || cursor;
      const skipped = Number(message.skipped);
      const items = message.lines.map((line, i) => ({ ...lineView(line), ...(i === 0 && skipped > 0 && { skipped }) }));
      return { items, step: 'more' };
    },
    endsWithServer: true,
  });
}

function lineView({ taskId, attempt, time, stream, text }: LogLine): WorkerLogLine {
  return { taskId, attempt, time: optionalDate(time), stream, text };
}
