import type { Lease, TaskResult } from '@baton/contract';
import type { BlobData } from '../calls/blob-transfer.ts';
import { ArtifactError, CheckpointError, JournalError } from '../errors.ts';
import { leaseFingerprint } from '../heartbeat/shared-state.ts';
import type { SignBoard } from '../heartbeat/sign-board.ts';
import type {
  AttemptArtifacts,
  AttemptBlobs,
  AttemptCheckpoints,
  AttemptFilesEnd,
  BlobEncoding,
  BlobValue,
  SaveOptions,
} from './attempt-data.ts';
import type { AttemptJournal, JournalRest, LoadedJournal } from './attempt-journal.ts';
import type { AttemptContext } from './executor.ts';
import { type StopKind, TaskStopped } from './stop.ts';

/**
 * Where an attempt stands on this worker:
 * `queued` → `running` → `finished` (its result is on its way) → `settled` (the master has it, or it is not wanted).
 */
export type AttemptPhase = 'queued' | 'running' | 'finished' | 'settled';

const noVariables: Readonly<Record<string, string>> = {};

/** Who keeps the lines that attempts write. */
export interface LogSink {
  append(attempt: Attempt, text: string, stream: string): void;
  /** Undefined: there is room; else when there will be. */
  room?(): Promise<void> | undefined;
}

/** Who keeps what attempts stream. */
export interface OutputSink {
  write(attempt: Attempt, data: string | Uint8Array): Promise<void>;
}

/** Who takes the news of attempts to the heartbeat. */
export interface SignSink {
  readonly board: SignBoard;
  say(attempt: Attempt, message: string): void;
}

/** Who keeps the checkpoints and the blobs of attempts. */
export interface DataSink {
  save(attempt: Attempt, value: unknown, options: SaveOptions): Promise<number>;
  load(attempt: Attempt, number: number): Promise<unknown>;
  blob(attempt: Attempt, data: BlobData, encoding: BlobEncoding): Promise<BlobValue<never>>;
  /** The input of a lease that names a blob. */
  input(attempt: Attempt): Promise<Uint8Array>;
  /** The files of an attempt. Absent where nothing is kept. */
  files?(attempt: Attempt): AttemptFilesEnd;
  /** Absent where nothing is kept. */
  readonly journals?: {
    load(attempt: Attempt): Promise<LoadedJournal>;
    append(attempt: Attempt, ...what: Parameters<AttemptJournal['append']>): ReturnType<AttemptJournal['append']>;
    /** True: the master has taken the result. False: it is to be sent, and the journal has its rest. */
    complete(attempt: Attempt, rest: JournalRest, result: TaskResult): Promise<boolean>;
    readonly keepsTimes: boolean;
  };
}

/** One lease that this session holds, and the work on it. What it costs per task is kept small: signal and timer are lazy. */
export class Attempt implements AttemptContext {
  readonly lease: Lease;
  readonly taskId: string;
  readonly epoch: number;
  readonly startToCloseMs: number;
  /** Longest silence; 0: no limit. */
  readonly progressTimeoutMs: number;
  /** What it adds to the digest of held leases. */
  readonly fingerprint: bigint;
  phase: AttemptPhase = 'queued';
  /** Of a durable function that has returned: what its journal still lacks. */
  rest: JournalRest | undefined;
  /** Set with the first reason to end it; later ones do not replace it, except `lost`. */
  stop: TaskStopped | undefined;
  /** `performance.now()` */
  startedAt = 0;
  /** `performance.now()` of its last sign. */
  signedAt = 0;
  /** Its seat on the board of signs; -1: none. */
  seat = -1;
  /** Runs out at the start-to-close time or when it may have been silent for too long, then, once stopped, at the end of the grace that its code has to end. */
  timer: NodeJS.Timeout | undefined;
  /** It has taken what its lease names beside a slot. */
  hasRoom = false;
  /** Lines written so far. */
  logSequence = 0;
  /** Position of its newest line in the log shipper. */
  logPosition = -1;
  readonly #logs: LogSink;
  readonly #outputs: OutputSink;
  readonly #signs: SignSink;
  readonly #data: DataSink | undefined;
  /** Of the worker; those that tasks may be handed. */
  readonly #variables: Readonly<Record<string, string>>;
  /** Number of the newest checkpoint that is saved; 0: none. */
  latestCheckpoint: number;
  #controller: AbortController | undefined;
  #checkpointers: (() => unknown)[] | undefined;
  /** Set when its code asked for files. */
  files: AttemptFilesEnd | undefined;

  constructor(
    lease: Lease,
    logs: LogSink,
    outputs: OutputSink,
    signs: SignSink,
    data?: DataSink,
    variables: Readonly<Record<string, string>> = noVariables,
  ) {
    this.lease = lease;
    this.taskId = lease.taskId;
    this.epoch = lease.epoch;
    this.startToCloseMs = Number(lease.startToCloseMs);
    this.fingerprint = leaseFingerprint(lease.taskId, lease.epoch);
    this.#logs = logs;
    this.#outputs = outputs;
    this.#signs = signs;
    this.#data = data;
    this.#variables = variables;
    this.latestCheckpoint = Number(lease.checkpoint);
    this.progressTimeoutMs = Number(lease.progressTimeoutMs);
  }

  get attempt(): number {
    return this.lease.attempt;
  }

  get maxAttempts(): number {
    return this.lease.maxAttempts;
  }

  get devices(): readonly string[] {
    return this.lease.devices;
  }

  get runId(): string | undefined {
    return this.lease.runId === '' ? undefined : this.lease.runId;
  }

  get nodeId(): string | undefined {
    return this.lease.nodeId === '' ? undefined : this.lease.nodeId;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.stop !== undefined) {
        this.#controller.abort(this.stop);
      }
    }
    return this.#controller.signal;
  }

  // A property and not a method: tasks take it off the context (`const { log } = ctx`).
  get log(): (text: string, stream?: string) => void {
    return (text, stream = 'log') => {
      // What is written after the end belongs to no attempt: its lines are complete already.
      if (this.phase === 'running') {
        this.sign();
        this.#logs.append(this, String(text), stream);
      }
    };
  }

  // As `log`: tasks take it off the context.
  get output(): AttemptContext['output'] {
    return {
      write: (data) => {
        this.sign();
        return this.#outputs.write(this, data);
      },
    };
  }

  // As `log`, too.
  get progress(): AttemptContext['progress'] {
    return (fraction, message) => {
      if (this.phase !== 'running') {
        return;
      }
      this.sign();
      if (fraction !== undefined && !Number.isNaN(fraction)) {
        this.#signs.board.progress(this.seat, Math.min(1, Math.max(0, fraction)));
      }
      if (message !== undefined) {
        this.#signs.say(this, String(message));
      }
    };
  }

  get checkpoint(): AttemptCheckpoints {
    const attempt = this;
    return {
      get latest() {
        return attempt.latestCheckpoint;
      },
      save: (value, options = {}) => attempt.#kept.save(attempt, value, options),
      load: <T>(number = 0) => attempt.#kept.load(attempt, number) as Promise<T | undefined>,
    };
  }

  get env(): Readonly<Record<string, string>> {
    const { environment } = this.lease;
    if (environment === undefined) {
      return {};
    }
    const env: Record<string, string> = {};
    for (const name of environment.pass) {
      const value = this.variable(name);
      if (value !== undefined) {
        env[name] = value;
      }
    }
    return { ...env, ...environment.set };
  }

  get workingDirectory(): string | undefined {
    return this.lease.environment?.workingDirectory || undefined;
  }

  variable(name: string): string | undefined {
    return Object.hasOwn(this.#variables, name) ? this.#variables[name] : undefined;
  }

  // A property, as `log`.
  get onCheckpointNow(): (listener: () => unknown) => void {
    return (listener) => {
      this.#checkpointers ??= [];
      this.#checkpointers.push(listener);
    };
  }

  logRoom(): Promise<void> | undefined {
    return this.#logs.room?.();
  }

  /** Asks the code to save where it stands; undefined where nobody listens, or nothing is to be waited for. Never rejects. */
  checkpointNow(): Promise<unknown> | undefined {
    const waits = (this.#checkpointers ?? []).map((listener) => {
      try {
        return listener();
      } catch {
        return undefined;
      }
    });
    const promises = waits.filter((wait) => wait instanceof Promise);
    return promises.length === 0 ? undefined : Promise.allSettled(promises);
  }

  get blob(): AttemptBlobs {
    return (data, { encoding = 'bytes' } = {}) => this.#kept.blob(this, data, encoding);
  }

  get artifacts(): AttemptArtifacts {
    if (this.files === undefined) {
      const data = this.#kept;
      if (data.files === undefined) {
        throw new ArtifactError('CACHE_UNUSABLE', 'nothing is kept for this attempt');
      }
      this.files = data.files(this);
    }
    return this.files;
  }

  get journal(): AttemptJournal {
    const journals = this.#kept.journals;
    if (journals === undefined) {
      throw new JournalError('NO_JOURNAL', 'this session keeps none');
    }
    return {
      load: () => journals.load(this),
      append: (entries, seenPosition) => journals.append(this, entries, seenPosition),
      get keepsTimes() {
        return journals.keepsTimes;
      },
    };
  }

  get #kept(): DataSink {
    if (this.#data === undefined) {
      throw new CheckpointError('nothing is kept for this attempt');
    }
    return this.#data;
  }

  /** The task itself gave a sign: it is not hung. */
  sign(): void {
    if (this.phase === 'running') {
      this.signedAt = performance.now();
      this.#signs.board.sign(this.seat, this.signedAt);
    }
  }

  /** Asks the code to end. Only `lost` overrides an earlier reason. */
  requestStop(kind: StopKind, message: string): void {
    if (this.stop === undefined) {
      this.stop = new TaskStopped(kind, message);
      this.#controller?.abort(this.stop);
    } else if (kind === 'lost') {
      this.stop = new TaskStopped(kind, message);
    }
  }

  /** The fields by which logs know it. */
  get fields(): Record<string, unknown> {
    return { task_id: this.taskId, lease_epoch: this.epoch, attempt: this.attempt, kind: this.lease.kind };
  }
}
