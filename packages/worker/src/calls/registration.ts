import type { RegisterWorkerRequest, RegisterWorkerResponse } from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { Code, ConnectError } from '@connectrpc/connect';
import { monotonicMs } from '../clock.ts';
import { fullJitter } from './backoff.ts';
import type { MasterConnection } from './connection.ts';
import { describe, reasonOf, sessionRefusal } from './refusal.ts';

const retry = { baseMs: 200, capMs: 10_000 };
const callTimeoutMs = 10_000;

export interface Registration {
  readonly response: RegisterWorkerResponse;
  /** When the request was sent, of `monotonicMs`: lease time counts from there. */
  readonly sentAtMs: number;
}

/**
 * Asks for a session until a master gives one, without a limit: a worker may be there before its master. Undefined when
 * the signal ends it. `renewInstance` is called when the instance is over before it began: a master took it, its answer was
 * lost, and the session has expired since. `protocols`: those that the worker speaks, the best first; where a master refuses one the
 * next is tried at once, and after the last the first again: masters of two versions may stand behind one address.
 */
export async function registerUntilAccepted(
  connection: MasterConnection,
  request: (protocolVersion: number) => RegisterWorkerRequest,
  protocols: readonly number[],
  renewInstance: () => void,
  signal: AbortSignal,
  log: Logger,
): Promise<Registration | undefined> {
  let refused = 0;
  for (let failures = 1; !signal.aborted; failures++) {
    const protocolVersion = protocols[refused % protocols.length]!;
    const sentAtMs = monotonicMs();
    try {
      const response = await connection.master.registerWorker(request(protocolVersion), {
        timeoutMs: callTimeoutMs,
        signal,
      });
      return { response, sentAtMs };
    } catch (thrown) {
      if (signal.aborted) {
        break;
      }
      const error = ConnectError.from(thrown);
      if (error.code === Code.DeadlineExceeded) {
        connection.reset();
      }
      if (reasonOf(error) === 'PROTOCOL_VERSION') {
        refused += 1;
        if (refused % protocols.length !== 0) {
          log.info('the master speaks an older protocol', { refused: protocolVersion });
          continue;
        }
      } else if (sessionRefusal(error) !== undefined) {
        renewInstance();
      }
      const retryInMs = fullJitter(failures, retry);
      log.warn('registration failed', { failures, retry_in_ms: retryInMs, reason: describe(error) });
      await pause(retryInMs, signal);
    }
  }
  return undefined;
}

/** Waits, or until the signal fires. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    if (signal.aborted) {
      done();
    }
  });
}
