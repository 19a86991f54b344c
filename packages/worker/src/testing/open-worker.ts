import { FailureType, PayloadEncoding } from '@baton/contract';
import { type LogFields, type Logger, silentLogger } from '@baton/telemetry';
import { onTestFinished } from 'vitest';
import type { AttemptContext, Executor, Outcome } from '../attempts/executor.ts';
import { createWorkerRuntime, type WorkerRuntime, type WorkerRuntimeOptions } from '../runtime.ts';
import { FakeMaster, type FakeMasterOptions } from './fake-master.ts';

const encoder = new TextEncoder();

export function success(value: unknown): Outcome {
  return { kind: 'success', output: encoder.encode(JSON.stringify(value)), encoding: PayloadEncoding.JSON };
}

/** Code that a test lets go on, and can look into. */
export class HeldTask {
  readonly context: AttemptContext;
  readonly #end = Promise.withResolvers<Outcome>();

  constructor(context: AttemptContext) {
    this.context = context;
  }

  get outcome(): Promise<Outcome> {
    return this.#end.promise;
  }

  end(outcome: Outcome = success('done')): void {
    this.#end.resolve(outcome);
  }
}

/**
 * An executor with a kind for each manner of task: `noop` ends at once, `hold` ends when the test or the signal says so,
 * `deaf` only when the test says so, `fail` fails, `throw` breaks its promise never to throw, and others as given.
 */
export class TestExecutor implements Executor {
  readonly type = 'function';
  kinds: readonly string[] = ['noop', 'hold', 'deaf', 'fail', 'throw'];
  readonly started: string[] = [];
  readonly holding = new Map<string, HeldTask>();
  readonly more: Record<string, (context: AttemptContext) => Outcome | Promise<Outcome>>;
  closed = false;
  #watchers: (() => void)[] = [];
  #kindsListener = () => {};

  constructor(more: Record<string, (context: AttemptContext) => Outcome | Promise<Outcome>> = {}) {
    this.more = more;
  }

  onKindsChange(listener: () => void): void {
    this.#kindsListener = listener;
  }

  setKinds(kinds: readonly string[]): void {
    this.kinds = kinds;
    this.#kindsListener();
  }

  start(
    lease: { readonly kind: string; readonly taskId: string },
    context: AttemptContext,
  ): Outcome | Promise<Outcome> {
    this.started.push(lease.taskId);
    const watchers = this.#watchers;
    this.#watchers = [];
    queueMicrotask(() => {
      for (const watcher of watchers) {
        watcher();
      }
    });
    switch (lease.kind) {
      case 'noop':
        return success(null);
      case 'fail':
        return { kind: 'failure', failure: { type: FailureType.EVALUATION_ERROR, message: 'no\u0000 \ud800' } };
      case 'throw':
        throw new RangeError('thrown across the seam');
      case 'hold':
      case 'deaf': {
        const held = new HeldTask(context);
        this.holding.set(lease.taskId, held);
        if (lease.kind === 'hold') {
          context.signal.addEventListener('abort', () => held.end({ kind: 'cancelled' }));
        }
        return held.outcome;
      }
      default:
        return this.more[lease.kind]!(context);
    }
  }

  /** The running task, once it runs. */
  async running(taskId: string): Promise<HeldTask> {
    while (!this.holding.has(taskId)) {
      await new Promise<void>((resolve) => this.#watchers.push(resolve));
    }
    return this.holding.get(taskId)!;
  }

  close(): void {
    this.closed = true;
  }
}

export interface OpenOptions extends Partial<Omit<WorkerRuntimeOptions, 'capabilities'>> {
  readonly master?: FakeMasterOptions;
  readonly slots?: number;
  readonly tasks?: TestExecutor['more'];
}

/** A master and a worker that belong to one test and end with it. The worker is made but not started. */
export async function openWorker(options: OpenOptions = {}): Promise<{
  master: FakeMaster;
  worker: WorkerRuntime;
  executor: TestExecutor;
}> {
  const { master: masterOptions, slots = 4, tasks, ...runtime } = options;
  const master = await FakeMaster.start(masterOptions);
  const executor = new TestExecutor(tasks);
  const worker = createWorkerRuntime({
    masterUrl: master.url,
    name: 'test-worker',
    version: '0.0.0',
    log: silentLogger,
    executors: [executor],
    heartbeatInThread: false,
    servicePort: null,
    capabilities: { slots },
    ...runtime,
  });
  onTestFinished(async () => {
    for (const held of executor.holding.values()) {
      held.end();
    }
    await worker.shutdown('the test is over');
    await master.close();
  });
  return { master, worker, executor };
}

/** A log that can be looked at. */
export function recordingLogger(): {
  log: Logger;
  lines: { level: string; message: string; fields: LogFields }[];
  until(message: string): Promise<void>;
} {
  const lines: { level: string; message: string; fields: LogFields }[] = [];
  let watchers: (() => void)[] = [];
  const at =
    (level: string, base: LogFields) =>
    (message: string, fields: LogFields = {}) => {
      lines.push({ level, message, fields: { ...base, ...fields } });
      const due = watchers;
      watchers = [];
      for (const watcher of due) {
        watcher();
      }
    };
  const make = (base: LogFields): Logger => ({
    debugEnabled: true,
    debug: at('debug', base),
    info: at('info', base),
    warn: at('warn', base),
    error: at('error', base),
    child: (fields) => make({ ...base, ...fields }),
    flush: async () => {},
  });
  return {
    log: make({}),
    lines,
    async until(message) {
      while (!lines.some((line) => line.message === message)) {
        await new Promise<void>((resolve) => watchers.push(resolve));
      }
    },
  };
}
