export const FAILURE_TYPES = [
  'WORKER_CRASH',
  'NETWORK_ERROR',
  'EVALUATION_ERROR',
  'TASK_TIMEOUT',
  'OUT_OF_MEMORY',
  'GPU_ERROR',
  'UNKNOWN',
] as const;
export type FailureType = (typeof FAILURE_TYPES)[number];

/** Why an attempt failed, as it is kept. */
export interface Failure {
  type: FailureType;
  message: string;
  /** The exception's class, where there was one. */
  exceptionType?: string;
  stack?: string;
  /** No further attempt makes sense. */
  nonRetryable?: boolean;
  /** The delay that the task asked for before its next attempt, ms. */
  retryAfterMs?: number;
  /** The device that it happened on (a GPU's UUID), where it is one device's fault. */
  device?: string;
}

/** What a machine does wrong, and not the task's own code: circuit breakers count these. */
export const MACHINE_MADE: readonly FailureType[] = ['WORKER_CRASH', 'NETWORK_ERROR', 'GPU_ERROR'];

const UNSAFE = /\u0000|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** True if Postgres can keep this text: no NUL, no lone surrogate. Inputs are refused otherwise. */
export function isStorableText(text: string): boolean {
  UNSAFE.lastIndex = 0;
  return !UNSAFE.test(text);
}

/** Text that Postgres can keep. A failure path must never fail for the text of its error, so it replaces and goes on. */
export function storableText(text: string): string {
  return text.replace(UNSAFE, '\ufffd');
}
