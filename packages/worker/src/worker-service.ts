import { setTimeout as pause } from 'node:timers/promises';
import {
  type GetStatusResponse,
  GetStatusResponseSchema,
  type Task,
  type TaskService,
  TaskState,
  type WorkerCapabilities,
  type WorkerService,
} from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import type { HealthMonitor, LoadMeter } from '@baton/hardware';
import { create } from '@bufbuild/protobuf';
import { durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import { type Client, Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { monotonicMs } from './clock.ts';
import { healthMessage, sampleMessage } from './heartbeat/health-message.ts';
import type { SharedState } from './heartbeat/shared-state.ts';
import { type Session, stampEveryMs } from './session.ts';
import type { LogHub } from './shipping/log-hub.ts';
import { type StateName, workerStates } from './state.ts';

/** So long a task that is not here is waited for before its lines are refused. */
const arrivalMs = 1_000;
const defaultWaitMs = 60_000;
/** The longest that one GetTask of a master waits. */
const maxGetTaskWaitMs = 60_000;

export interface WorkerServiceOptions {
  readonly name: string;
  readonly namespace: string;
  readonly version: string;
  readonly masterUrl: string;
  readonly runtime: {
    readonly state: StateName;
    readonly session: Session | undefined;
    drain(reason: string): Promise<void>;
    shutdown(reason: string): Promise<void>;
  };
  readonly capabilities: () => WorkerCapabilities;
  readonly shared: SharedState;
  readonly load: LoadMeter;
  readonly health: HealthMonitor | undefined;
  readonly hub: LogHub;
  readonly tasks: Client<typeof TaskService>;
  /** Fires when the server is about to close. */
  readonly closing: AbortSignal;
}

/** What a worker answers where it can be reached. Nothing depends on it: all of it goes through the same session. */
export function workerService(options: WorkerServiceOptions): ServiceImpl<typeof WorkerService> {
  const { runtime, shared } = options;
  const startedAt = performance.now();

  return {
    getStatus(): GetStatusResponse {
      const now = performance.now();
      const { session } = runtime;
      return create(GetStatusResponseSchema, {
        name: options.name,
        sessionId: session?.id ?? '',
        state: workerStates[runtime.state],
        capabilities: options.capabilities(),
        metrics: {
          ...options.load.sample(),
          tasksCompleted: shared.completed,
          tasksFailed: shared.failed,
          running: session?.work.running ?? 0,
          loopLagMs: shared.peekLoopLagMs(monotonicMs(), stampEveryMs),
        },
        running: Array.from(session?.work.attempts() ?? [])
          .filter((attempt) => attempt.phase === 'running')
          .map((attempt) => ({
            taskId: attempt.taskId,
            attempt: attempt.attempt,
            epoch: attempt.epoch,
            kind: attempt.lease.kind,
            ranFor: durationFromMs(Math.round(now - attempt.startedAt)),
          })),
        uptime: durationFromMs(Math.round(now - startedAt)),
        version: options.version,
        masterUrl: options.masterUrl,
        ...(options.health && {
          health: {
            ...healthMessage(options.health.report),
            ageMs: BigInt(Math.max(0, Date.now() - options.health.report.atMs)),
          },
        }),
      });
    },

    getHealthHistory() {
      return { samples: (options.health?.history() ?? []).map(sampleMessage) };
    },

    async executeTask(request, context) {
      if (request.task === undefined) {
        throw new ConnectError('task is required', Code.InvalidArgument);
      }
      const waitMs = request.wait === undefined ? defaultWaitMs : durationMs(request.wait);
      const until = performance.now() + waitMs;
      const { namespace, tasks } = options;
      const call = { signal: context.signal };
      // Every worker has this tag by its name.
      const task = { ...request.task, tags: [...request.task.tags, `worker:${options.name}`] };
      const { taskId } = await tasks.submitTask({ namespace, task }, call);
      for (;;) {
        const leftMs = Math.max(0, Math.round(until - performance.now()));
        const wait = durationFromMs(Math.min(leftMs, maxGetTaskWaitMs));
        const current = (await tasks.getTask({ namespace, taskId, wait }, call)).task;
        if (isOver(current) || performance.now() >= until || options.closing.aborted) {
          return { task: current };
        }
      }
    },

    cancelTask(request) {
      if (runtime.session?.work.cancel(request.taskId, undefined, request.reason) !== true) {
        throw notHere(`task ${request.taskId} does not run on worker ${options.name}`);
      }
      return {};
    },

    drain(request) {
      const held = runtime.session?.work.held ?? 0;
      void runtime.drain(request.reason === '' ? 'asked to' : request.reason);
      return { held };
    },

    shutdown(request) {
      const reason = request.reason === '' ? 'asked to' : request.reason;
      void (request.graceful ? runtime.drain(reason) : runtime.shutdown(reason));
      return {};
    },

    async *streamLogs(request, context) {
      const { taskId, cursor, follow = true } = request;
      const { hub } = options;
      const isHere = () => taskId === '' || runtime.session?.work.hasOpen(taskId) === true;
      const signal = AbortSignal.any([context.signal, options.closing]);
      // Of one that was submitted just now the lease may be on its way.
      const until = performance.now() + arrivalMs;
      while (!isHere() && !hub.has(taskId) && follow && performance.now() < until && !signal.aborted) {
        await pause(arrivalMs / 20);
      }
      if (!isHere() && !hub.has(taskId)) {
        throw notHere(
          `task ${taskId} neither runs nor waits on worker ${options.name}; its lines are at the master: StreamTaskLogs, baton task logs ${taskId}`,
        );
      }
      const recent = request.recent ?? (follow ? 0 : Number.POSITIVE_INFINITY);
      const isOver = () => !follow || !isHere();
      const last = runtime.session?.work.lastLine(taskId);
      for await (const { skipped, ...lines } of hub.follow({ taskId, cursor, recent, last, isOver }, signal)) {
        yield { ...lines, skipped: BigInt(skipped) };
      }
    },
  };
}

function notHere(message: string): ConnectError {
  const reason = { desc: errorDetails.ErrorInfoSchema, value: { reason: 'TASK_NOT_HERE', domain: 'baton' } };
  return new ConnectError(message, Code.NotFound, undefined, [reason]);
}

function isOver(task: Task | undefined): boolean {
  return (
    task === undefined ||
    task.state === TaskState.SUCCEEDED ||
    task.state === TaskState.FAILED ||
    task.state === TaskState.CANCELLED
  );
}
