/** Of a figure over the repetitions. */
export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** Of times in one measurement, ms. */
export interface Percentiles {
  samples: number;
  p50: number;
  p95: number;
  p99: number;
  max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = ascending(values);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median: round(median), min: round(sorted[0]!), max: round(sorted.at(-1)!) };
}

/** The smallest sample that at least so many per cent do not exceed. */
export function percentiles(timesMs: readonly number[]): Percentiles {
  const sorted = ascending(timesMs);
  const at = (percent: number) => round(sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!);
  return { samples: sorted.length, p50: at(50), p95: at(95), p99: at(99), max: at(100) };
}

/** To 2 decimals below 1 000, whole above: what is finer is noise. */
export function round(value: number): number {
  return Math.abs(value) >= 1000 ? Math.round(value) : Math.round(value * 100) / 100;
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
