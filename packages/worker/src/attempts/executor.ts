import type { FailureType, FunctionWorkflowSchema, Lease, PayloadEncoding } from '@baton/contract';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { AttemptArtifacts, AttemptBlobs, AttemptCheckpoints } from './attempt-data.ts';
import type { AttemptJournal, JournalRest } from './attempt-journal.ts';

/** How one attempt went wrong. Texts of any length and content are fine: they are cut and cleaned before they travel. */
export interface FailureReport {
  readonly type: FailureType;
  readonly message: string;
  /** The exception's class, where there was one. */
  readonly exceptionType?: string;
  readonly stack?: string;
  /** No further attempt makes sense. Default false. */
  readonly nonRetryable?: boolean;
  /** The delay before the next attempt, instead of the policy's. */
  readonly retryAfterMs?: number;
  /** UUID of the device at fault, where it is one device's. */
  readonly device?: string;
}

/** How an attempt ended, as its executor tells it. `cancelled`: it stopped because the context's signal said so. */
export type Outcome =
  | {
      readonly kind: 'success';
      readonly output: Uint8Array;
      readonly encoding: PayloadEncoding;
      /** Uploaded before; instead of `output`, which is empty. */
      readonly blob?: { readonly sha256: string; readonly sizeBytes: number };
      /** Of a durable function: what its journal still lacks, and goes there with this or before it. */
      readonly rest?: JournalRest;
    }
  | { readonly kind: 'failure'; readonly failure: FailureReport }
  | { readonly kind: 'cancelled' }
  /** A durable function waits: its lease ends at no cost. `wakes` and `dueAtMs` as its journal's newest answer had them. */
  | { readonly kind: 'suspended'; readonly wakes: bigint; readonly dueAtMs: number | null };

/** What a running attempt is handed besides its lease. Fits `TaskContext` of the client, so that it is passed as it is. */
export interface AttemptContext {
  /** Aborted with a `TaskStopped` when the attempt has to end: its result may not be wanted any more. */
  readonly signal: AbortSignal;
  readonly taskId: string;
  /** 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly epoch: number;
  readonly runId: string | undefined;
  readonly nodeId: string | undefined;
  /** UUIDs of the devices that it has for itself; empty: none. A child gets them as CUDA_VISIBLE_DEVICES, an empty one too. */
  readonly devices: readonly string[];
  /** 0: none. The runtime enforces it by the signal; it is here for those who hand it on. */
  readonly startToCloseMs: number;
  /** Keeps a line of the attempt. Never throws, never waits. */
  log(text: string, stream?: string): void;
  /**
   * Says that the task goes on, how far it is (0 to 1), and what it does; seen in the task, and a sign for its progress timeout.
   * Never throws, never waits.
   */
  progress(fraction?: number, message?: string): void;
  /** What the attempt streams while it runs; see the client's TaskOutput. */
  readonly output: { write(data: string | Uint8Array): Promise<void> };
  readonly checkpoint: AttemptCheckpoints;
  readonly blob: AttemptBlobs;
  /** Files that it is handed, and files that it produces. */
  readonly artifacts: AttemptArtifacts;
  /** Of the run that the task drives, where it drives one. */
  readonly journal: AttemptJournal;
  /** Variables that the task's environment sets, and of those that it asks the worker for the ones that the worker hands on. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute; undefined: none was asked for. */
  readonly workingDirectory: string | undefined;
  /**
   * Calls back when the worker is about to hand the attempt back, so that it may save where it stands: the attempt is asked to stop when
   * what the listener returns has settled, or after some seconds. Save by `checkpoint` within it.
   */
  onCheckpointNow(listener: () => unknown): void;
  /** Undefined: there is room for lines; else when there will be. Who does not wait loses the oldest lines in a flood. */
  logRoom?(): Promise<void> | undefined;
  /** A variable of the worker that tasks may be handed; undefined where there is none, or the worker's allow-list lacks it. */
  variable(name: string): string | undefined;
}

/** A durable function as its code describes it. */
export type FunctionDescription = Omit<MessageInitShape<typeof FunctionWorkflowSchema>, '$typeName'> & { id: string };

/** Carries tasks out. One instance serves all attempts of a worker. */
export interface Executor {
  /** The case of `Lease.executor` that it carries out. */
  readonly type: NonNullable<Lease['executor']['case']>;
  /** Kinds of tasks that are registered with it; only `function` has any. May change: see `onKindsChange`. */
  readonly kinds?: readonly string[];
  /** Durable functions among them. */
  readonly functions?: readonly FunctionDescription[];
  /** Tags that the worker has by what is registered: the versions of its functions. */
  readonly tags?: readonly string[];
  /** Resolves when it may be given work: it may have to tidy up what an earlier life left behind. Never rejects. */
  ready?(): Promise<void>;
  /** How long an attempt may take to end after it was told to, where that is for the task to say. Default: the worker's. */
  stopGraceMs?(lease: Lease): number;
  /** Calls back after `kinds` changed. */
  onKindsChange?(listener: () => void): void;
  /**
   * Starts an attempt. Never throws and never rejects. An outcome that is there at once is returned as it is: a promise
   * per task is what short tasks would pay most for.
   */
  start(lease: Lease, context: AttemptContext): Outcome | Promise<Outcome>;
  /** Kinds for which it keeps something ready (a process, a model in memory): it is preferred for these. */
  warm?(): readonly string[];
  /** Devices that something of this is kept on, without a lease. */
  warmDevices?(): readonly string[];
  /** Frees what it keeps open. Called once, when nothing runs any more. */
  close?(): void | Promise<void>;
}
