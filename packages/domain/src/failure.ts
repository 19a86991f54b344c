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

/** Colours and moves of a terminal: CSI, OSC with its text, and the shorter ones. */
const TERMINAL = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[ -/]*[0-Z\\^-~]/g;
/** C0 but for tab and line feed, DEL, C1, and what Postgres does not keep. */
const NOT_FOR_PEOPLE = new RegExp(`[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f]|${UNSAFE.source}`, 'g');

/**
 * Words for people as they are kept: text that Postgres can keep, and that does nothing to the terminal of who reads it by SQL.
 * A failure path must never fail for the text of its error, so it replaces and goes on.
 */
export function storableText(text: string): string {
  return text.replace(TERMINAL, '').replaceAll('\r\n', '\n').replace(NOT_FOR_PEOPLE, '\ufffd');
}
