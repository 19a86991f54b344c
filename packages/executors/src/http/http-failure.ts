import { FailureType } from '@baton/contract';
import type { FailureReport } from '@baton/runtime';
import { AddressRefused } from './address-rules.ts';
import { AnswerTooLarge, RedirectRefused } from './send-request.ts';

/** Statuses of 400 to 499 that may be otherwise a moment later. */
const PASSING = new Set([408, 425, 429]);
/** Said by what stands before a function, and not by the function. */
const GATEWAY = new Set([502, 503, 504]);
const MAX_TEXT = 2_000;

/** A request that came to no answer. */
export function failureOfRequest(thrown: unknown, url: URL): FailureReport {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  if (error instanceof AddressRefused || error instanceof RedirectRefused || error instanceof AnswerTooLarge) {
    return {
      type: FailureType.EVALUATION_ERROR,
      message: error.message,
      exceptionType: error.name,
      nonRetryable: !(error instanceof RedirectRefused),
    };
  }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return {
    type: FailureType.NETWORK_ERROR,
    message: `cannot reach ${url.origin}: ${reasonOf(error, code)}`,
    ...(code !== undefined && { exceptionType: code }),
  };
}

function reasonOf(error: Error, code: string | undefined): string {
  switch (code) {
    case 'ECONNREFUSED':
      return 'connection refused';
    case 'ENOTFOUND':
      return 'the host name is not known';
    case 'ECONNRESET':
      return 'the connection broke before the answer was complete';
    default:
      // Of several addresses tried Node says nothing in the error itself.
      return error.message || (code ?? error.name);
  }
}

export interface RefusedAnswer {
  readonly status: number;
  readonly url: URL;
  /** `retry-after`, as it came. */
  readonly retryAfter: string | undefined;
  /** The body, where it is text. */
  readonly text: string;
}

/**
 * An answer that is no success. The function may say more in JSON: `{ "error": { "type", "message", "stack", "retryable",
 * "retry_after_ms" } }`, or RFC 9457's `title` and `detail`.
 *
 * @param nowMs for a `Retry-After` that is a date
 */
export function failureOfAnswer(answer: RefusedAnswer, permanent: readonly number[], nowMs: number): FailureReport {
  const { status, url, text } = answer;
  const said = saidOf(text);
  const isPassing = status < 400 || status >= 500 || PASSING.has(status);
  const where = `${url.origin}${url.pathname} answered ${status}`;
  const message = said.message ?? text.trim().slice(0, MAX_TEXT);
  return {
    type: GATEWAY.has(status) && said.type === undefined ? FailureType.NETWORK_ERROR : FailureType.EVALUATION_ERROR,
    message: message === '' ? where : `${where}: ${message}`,
    exceptionType: said.type ?? `HTTP ${status}`,
    ...(said.stack !== undefined && { stack: said.stack }),
    nonRetryable: permanent.includes(status) || (said.retryable === undefined ? !isPassing : !said.retryable),
    retryAfterMs: said.retryAfterMs ?? delayOf(answer.retryAfter, nowMs),
  };
}

interface Said {
  readonly type?: string | undefined;
  readonly message?: string | undefined;
  readonly stack?: string | undefined;
  readonly retryable?: boolean | undefined;
  readonly retryAfterMs?: number | undefined;
}

/** What a function says of its failure; of anything else, nothing. */
export function saidOf(json: unknown): Said {
  let value: unknown = json;
  if (typeof json === 'string') {
    try {
      value = JSON.parse(json);
    } catch {
      return {};
    }
  }
  if (!isObject(value)) return {};
  const { error, title, detail } = value;
  if (typeof error === 'string') return { message: error };
  if (isObject(error)) {
    return {
      type: textOf(error.type),
      message: textOf(error.message),
      stack: textOf(error.stack),
      retryable: typeof error.retryable === 'boolean' ? error.retryable : undefined,
      retryAfterMs:
        typeof error.retry_after_ms === 'number' && error.retry_after_ms >= 0 ? error.retry_after_ms : undefined,
    };
  }
  const words = [title, detail].filter((word) => typeof word === 'string');
  return words.length > 0 ? { message: words.join(': ') } : {};
}

/** `Retry-After`: seconds, or a date. */
function delayOf(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text.trim())) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
