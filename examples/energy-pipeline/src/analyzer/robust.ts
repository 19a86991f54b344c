/** The middle value, or the mean of the two middle ones. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle]!;
  return (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Makes the median absolute deviation comparable to a standard deviation: 1 / Φ⁻¹(3/4). */
export const MAD_TO_SIGMA = 1.4826;

/** Centre and spread that a few wild values cannot move: median, and median absolute deviation as a sigma. */
export interface RobustBaseline {
  readonly median: number;
  readonly sigma: number;
}

export function robustBaseline(values: readonly number[]): RobustBaseline {
  const centre = median(values);
  return { median: centre, sigma: MAD_TO_SIGMA * median(values.map((value) => Math.abs(value - centre))) };
}
