import { ConnectError, type Interceptor } from '@connectrpc/connect';
import type { OnError } from './options.ts';

/**
 * The outermost interceptor. It sees to two things that Connect leaves open:
 *
 * - An error that is no ConnectError is a defect. Connect answers it with "internal error" and forgets it; here it is
 *   reported.
 * - When `cut` fires, every call in flight ends with its reason, though its handler may not listen to its signal. Else
 *   the peer would see its stream break, which HTTP/2 clients read as `canceled`, as if they had asked for it.
 */
export function supervise(cut: AbortSignal, onError: OnError): Interceptor {
  // Not Promise.race with one promise for all: each race would stay attached to it for the life of the server.
  const pending = new Set<(reason: unknown) => void>();
  cut.addEventListener('abort', () => {
    for (const reject of pending) {
      reject(cut.reason);
    }
  });

  function untilCut<T>(step: Promise<T>, report: (error: unknown) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      if (cut.aborted) {
        reject(cut.reason);
      }
      pending.add(reject);
      step.then(
        (value) => {
          pending.delete(reject);
          resolve(value);
        },
        (error) => {
          pending.delete(reject);
          report(error);
          reject(error);
        },
      );
    });
  }

  return (next) => async (request) => {
    const report = (error: unknown) => {
      // What a handler throws because its own caller went away is no defect.
      if (!(error instanceof ConnectError) && !request.signal.aborted) {
        onError(error, `${request.service.typeName}/${request.method.name}`);
      }
    };
    const response = await untilCut(next(request), report);
    if (!response.stream) {
      return response;
    }
    const messages = response.message[Symbol.asyncIterator]();
    const supervised: AsyncIterator<(typeof response)['message'] extends AsyncIterable<infer M> ? M : never> = {
      next: () => untilCut(messages.next(), report),
    };
    if (messages.return) {
      supervised.return = (value) => messages.return!(value);
    }
    if (messages.throw) {
      supervised.throw = (error) => messages.throw!(error);
    }
    return { ...response, message: { [Symbol.asyncIterator]: () => supervised } };
  };
}
