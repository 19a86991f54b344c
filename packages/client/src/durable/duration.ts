import { WorkflowUsageError } from './errors.ts';

/** Milliseconds, or a number with its unit: '500ms', '30s', '5m', '24h', '7d', '2w'. */
export type Duration = number | string;

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
/** A hundred years. */
const LONGEST_MS = 100 * 365 * 86_400_000;

/** Throws `WorkflowUsageError` for what is no time. */
export function durationMs(duration: Duration): number {
  let ms: number;
  if (typeof duration === 'number') ms = duration;
  else {
    const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*$/.exec(duration);
    if (match === null)
      throw new WorkflowUsageError(
        `${JSON.stringify(duration)} is no duration; write milliseconds, or a number with a unit: '500ms', '30s', '5m', '24h', '7d', '2w'`,
      );
    ms = Number(match[1]) * UNITS[match[2]!]!;
  }
  if (!Number.isFinite(ms) || ms < 0) throw new WorkflowUsageError(`${duration} is no duration: 0 or more is wanted`);
  return Math.min(Math.round(ms), LONGEST_MS);
}
