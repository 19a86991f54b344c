import { Code, ConnectError } from '@connectrpc/connect';

/** What the API is handed besides the engine. */
export interface ApiOptions {
  version: string;
  masterId: string;
  /** Milliseconds since the master started; 0 at the edge. */
  uptimeMs(): number;
  /** Raised when the server goes: long polls and watches end. */
  closing?: AbortSignal;
  /** Errors that nobody foresaw. */
  report(error: unknown, where: string): void;
  /** Metrics that only this process can tell, beside the engine's. */
  processMetrics?(): { name: string; value: number; help: string; type: 'counter' | 'gauge' }[];
}

/**
 * For the end of a handler that waits: a call that was cut by its deadline or its caller says so. Ended in order, a stream would
 * look complete, and which of the two clocks was first would decide what the caller sees.
 *
 * @param closing also where the server's own end cuts it: a stream whose end means that all was said
 */
export function throwIfCut(signal: AbortSignal, closing?: AbortSignal): void {
  if (signal.aborted) throw ConnectError.from(signal.reason, Code.Canceled);
  if (closing?.aborted) throw new ConnectError('this server ends here; go on at another, or later', Code.Unavailable);
}

export function eitherAborts(a: AbortSignal, b: AbortSignal | undefined): AbortSignal {
  return b ? AbortSignal.any([a, b]) : a;
}
