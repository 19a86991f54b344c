import type { ArtifactValue } from '@baton/runtime';

/** The version of the protocol that is spoken here: docs/reference/task-protocol.md. */
export const TASK_PROTOCOL = 1;

/** What a task says. All fields but `type` may be left out where they have a default. */
export type FromTask =
  | {
      readonly type: 'hello';
      readonly protocol?: number;
      /** It ends by itself when it is told `stop`; SIGTERM comes only when half of the grace is over. */
      readonly stops?: boolean;
      /** It saves when it is told `checkpoint_now`. */
      readonly saves?: boolean;
      /** It takes another `start` after it has said `result` or `failure`. */
      readonly reusable?: boolean;
    }
  | { readonly type: 'progress'; readonly fraction?: number; readonly message?: string }
  | { readonly type: 'log'; readonly text: string }
  | { readonly type: 'metric'; readonly name: string; readonly value: number; readonly step?: number }
  | { readonly type: 'output'; readonly id?: Id; readonly text?: string; readonly base64?: string }
  | {
      readonly type: 'save_checkpoint';
      readonly id?: Id;
      readonly value?: unknown;
      /** A file in the task's directory; not to be changed until the answer. */
      readonly file?: string;
      /** How `file` is to be read. Default: bytes. */
      readonly encoding?: 'json' | 'bytes';
      readonly score?: number;
      readonly metadata?: Readonly<Record<string, string>>;
    }
  /** Nothing to save just now: the answer to `checkpoint_now`. */
  | { readonly type: 'checkpoint_skipped' }
  | { readonly type: 'load_checkpoint'; readonly id?: Id; readonly number?: number }
  | {
      readonly type: 'put_artifact';
      readonly id?: Id;
      readonly name: string;
      /** In the task's directory; not to be changed until the answer. */
      readonly file: string;
    }
  | {
      readonly type: 'result';
      readonly value?: unknown;
      readonly file?: string;
      readonly encoding?: 'json' | 'bytes';
    }
  | {
      readonly type: 'failure';
      readonly message?: string;
      readonly exception_type?: string;
      readonly stack?: string;
      readonly non_retryable?: boolean;
      readonly retry_after_ms?: number;
      /** EVALUATION_ERROR (default), NETWORK_ERROR, GPU_ERROR, OUT_OF_MEMORY, UNKNOWN. */
      readonly failure_type?: string;
      readonly device?: string;
    };

export type Id = string | number;

/** What a task is told. */
export type ToTask =
  | {
      readonly type: 'start';
      readonly protocol: number;
      readonly task_id: string;
      readonly attempt: number;
      readonly max_attempts: number;
      readonly epoch: number;
      readonly kind: string;
      readonly run_id?: string;
      readonly node_id?: string;
      /** JSON of at most 64 KiB; larger ones, and bytes, are in the file only. */
      readonly input?: unknown;
      readonly input_file: string;
      readonly encoding: 'json' | 'bytes';
      readonly directory: string;
      /** Number of the newest checkpoint; 0: none. */
      readonly checkpoint: number;
      /** 0: none. */
      readonly timeout_ms: number;
      readonly devices: readonly string[];
      /** What it is handed, by name; `file` is its path, for reading. */
      readonly artifacts: Readonly<Record<string, { sha256: string; size_bytes: number; file: string }>>;
      /** The directory with all of them. */
      readonly artifacts_in: string;
      /** A directory: what lies there when the task succeeds is kept under the names of the files. */
      readonly artifacts_out: string;
    }
  | { readonly type: 'checkpoint_saved'; readonly id?: Id; readonly number: number }
  | {
      readonly type: 'checkpoint_loaded';
      readonly id?: Id;
      /** There is one; else there are no further fields. */
      readonly found: boolean;
      readonly encoding?: 'json' | 'bytes';
      readonly file?: string;
      /** JSON of at most 64 KiB. */
      readonly value?: unknown;
    }
  | {
      readonly type: 'artifact_put';
      readonly id?: Id;
      /** What names it, to be a part of the result where others are handed it. */
      readonly artifact: ArtifactValue;
    }
  | { readonly type: 'output_taken'; readonly id?: Id }
  | { readonly type: 'refused'; readonly id?: Id; readonly message: string }
  | { readonly type: 'checkpoint_now' }
  | {
      readonly type: 'stop';
      readonly reason: 'cancel' | 'timeout' | 'hand-back' | 'lost';
      readonly message: string;
      readonly grace_ms: number;
    };
