import type {
  JournalEntryView,
  RetriedRun,
  RetryRunOptions,
  RunNodeView,
  RunStateName,
  RunView,
  SignalOptions,
  TaskDetails,
  TaskStateName,
} from '@baton/client';
import type { StepCount } from './under-test.ts';

/** A task that a kit runs. */
export interface KitTask<Output = unknown> {
  readonly id: string;
  /** Waits for the end, and lets the kit skip time meanwhile. Throws `TaskFailed`, `TaskCancelled`, `KitError`. */
  result(): Promise<Output>;
  /** Waits for the end, whatever it is, and lets the kit skip time meanwhile. */
  end(): Promise<TaskDetails<Output>>;
  status(): Promise<TaskDetails<Output>>;
  cancel(reason?: string): Promise<TaskStateName>;
}

/** A run of a graph or a durable function. */
export interface KitRun<Output = unknown> {
  readonly id: string;
  /** Waits for the end, and lets the kit skip time meanwhile; the run's output. Throws `RunFailed`, `RunCancelled`, `KitError`. */
  result(): Promise<Output>;
  /** Waits for the end, whatever it is, and lets the kit skip time meanwhile. */
  end(): Promise<RunView<Output>>;
  status(): Promise<RunView<Output>>;
  /** Of a graph, by their ids; of a durable function, its journal as nodes, a name that comes again by `name#2`. */
  nodes(): Promise<Readonly<Record<string, RunNodeView>>>;
  /** Of a durable function: what it did and waits for, in the order of its code. */
  journal(): Promise<readonly JournalEntryView[]>;
  /** Of a durable function: how often the code of each step was begun, and came to its end. In the order in which they began. */
  steps(): readonly StepCount[];
  /** Kept until the function waits for one of this name. */
  signal(name: string, payload?: unknown, options?: SignalOptions): Promise<void>;
  cancel(reason?: string): Promise<RunStateName>;
  /** Goes on from where the run failed or was cancelled, as its next execution. */
  retry(options?: RetryRunOptions): Promise<RetriedRun>;
}
