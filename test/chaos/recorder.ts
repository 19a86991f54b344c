import type { ClientOperation, WorkerCall } from '@baton/testkit/history';

/** One signal that a client sent to a run. */
export interface SentSignal {
  readonly runId: string;
  readonly payload: string;
  readonly invokedAtMs: number;
  /** Null: it was never acknowledged. */
  readonly acknowledgedAtMs: number | null;
}

/** All that the harness did and was told, in the words of the history that is checked. */
export interface Recorder {
  readonly operations: ClientOperation[];
  readonly calls: WorkerCall[];
  readonly signals: SentSignal[];
  /** Tasks whose submit was acknowledged, each once. */
  readonly acknowledged: ReadonlySet<string>;
  /** Calls that were refused because what they named was over: LEASE_LOST, SESSION_LOST. */
  readonly staleRefused: number;
  /** What must not have been accepted, in words; the checker of the history does not know of these. */
  readonly wrong: string[];
  operation(operation: ClientOperation): void;
  call(call: WorkerCall): void;
  /** A call that is no part of the history (lines of logs). */
  refused(): void;
}

const STALE = new Set(['LEASE_LOST', 'SESSION_LOST']);

export function createRecorder(): Recorder {
  const acknowledged = new Set<string>();
  const operations: ClientOperation[] = [];
  const calls: WorkerCall[] = [];
  let staleRefused = 0;
  return {
    operations,
    calls,
    signals: [],
    acknowledged,
    wrong: [],
    get staleRefused() {
      return staleRefused;
    },
    operation(operation) {
      operations.push(operation);
      if (operation.type === 'submit' && operation.outcome === 'ok') acknowledged.add(operation.taskId!);
    },
    call(call) {
      calls.push(call);
      if (call.outcome === 'fail' && STALE.has(call.reason ?? '')) staleRefused++;
    },
    refused() {
      staleRefused++;
    },
  };
}

/** Now, by the clock of the machine, in milliseconds with fractions. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
