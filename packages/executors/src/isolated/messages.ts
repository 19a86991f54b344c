import type { AttemptContext, Outcome } from '@baton/runtime';

/** What an isolate is told. */
export type ToIsolate =
  | { readonly type: 'start'; readonly job: Job }
  | { readonly type: 'stop'; readonly kind: string; readonly message: string }
  /** The worker is about to hand the attempt back: what listens may save. Answered with `saved`. */
  | { readonly type: 'checkpoint-now' }
  | { readonly type: 'answer'; readonly call: number; readonly value?: unknown; readonly error?: CarriedError };

/** What it says. */
export type FromIsolate =
  | { readonly type: 'ready' }
  | { readonly type: 'log'; readonly text: string; readonly stream?: string }
  | { readonly type: 'progress'; readonly fraction?: number; readonly message?: string }
  | { readonly type: 'call'; readonly call: number; readonly path: string; readonly args: readonly unknown[] }
  | { readonly type: 'listens' }
  | { readonly type: 'saved' }
  /** `heapBytes`: what it holds after the task. */
  | { readonly type: 'done'; readonly outcome: Outcome; readonly heapBytes: number }
  /** The module cannot be used. */
  | { readonly type: 'broken'; readonly message: string; readonly stack?: string };

/** One attempt. Plain data: it crosses a thread or a process. */
export interface Job {
  readonly taskId: string;
  readonly kind: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly runId: string;
  readonly nodeId: string;
  readonly startToCloseMs: number;
  readonly input: Uint8Array;
  readonly encoding: number;
  readonly latestCheckpoint: number;
  readonly env: Readonly<Record<string, string>>;
  readonly workingDirectory: string | undefined;
  readonly devices: readonly string[];
  readonly artifacts: AttemptContext['artifacts']['inputs'];
}

/** An error with what Baton reads of it: name, reason and whether a retry helps. */
export interface CarriedError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly more: Readonly<Record<string, unknown>>;
}

const CARRIED = ['reason', 'nonRetryable', 'code', 'kind', 'delayMs', 'type', 'device'];

export function carry(error: unknown): CarriedError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), more: {} };
  const fields = error as unknown as Record<string, unknown>;
  const more = Object.fromEntries(
    CARRIED.flatMap((name) =>
      ['string', 'number', 'boolean'].includes(typeof fields[name]) ? [[name, fields[name]]] : [],
    ),
  );
  return { name: error.name, message: error.message, ...(error.stack !== undefined && { stack: error.stack }), more };
}

export function uncarry({ name, message, stack, more }: CarriedError): Error {
  const error = new Error(message);
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return Object.assign(error, more);
}
