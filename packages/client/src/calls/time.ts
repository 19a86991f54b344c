import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';
import { durationFromMs, durationMs, timestampDate } from '@bufbuild/protobuf/wkt';

export function optionalMs(duration: Duration | undefined): number | undefined {
  return duration && durationMs(duration);
}

export function optionalDuration(ms: number | undefined): Duration | undefined {
  return ms === undefined ? undefined : durationFromMs(Math.round(ms));
}

/** Points in time lose their microseconds in a `Date`; nothing is ordered by them. */
export function optionalDate(time: Timestamp | undefined): Date | undefined {
  return time && timestampDate(time);
}

/** Resolves after `ms`; rejects with the signal's reason as soon as it is aborted. */
export function delay(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
