import { type Duration, durationFromMs as exactDurationFromMs } from '@bufbuild/protobuf/wkt';

/** A duration in whole milliseconds. The library's own conversion yields fractional nanoseconds, which cannot be encoded. */
export function durationFromMs(ms: number): Duration {
  return exactDurationFromMs(Math.round(ms));
}
