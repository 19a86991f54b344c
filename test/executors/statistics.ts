/** Describes numbers, in four steps: one makes them, two look at them, each on its own, and one brings together what they found. */
export type Step =
  | { step: 'sample'; seed: number; count: number }
  | { step: 'moments'; values: readonly number[] }
  | { step: 'quantiles'; values: readonly number[]; at: readonly number[] }
  | { step: 'report'; moments: Record<string, number>; quantiles: Record<string, number> };

export function statistics(input: Step): Record<string, unknown> {
  switch (input.step) {
    case 'sample':
      return { values: sample(input.seed, input.count) };
    case 'moments':
      return moments(input.values);
    case 'quantiles': {
      const sorted = [...input.values].sort((a, b) => a - b);
      return Object.fromEntries(
        input.at.map((q) => [`p${Math.round(q * 100)}`, sorted[Math.floor(q * (sorted.length - 1))]!]),
      );
    }
    case 'report': {
      const lines = [...Object.entries(input.moments), ...Object.entries(input.quantiles)].sort(([a], [b]) =>
        a < b ? -1 : 1,
      );
      return { text: lines.map(([name, value]) => `${name}\t${value.toFixed(12)}\n`).join('') };
    }
  }
}

/** Numbers that look random, and are the same everywhere: sums of what a linear congruential generator gives. */
function sample(seed: number, count: number): number[] {
  let state = seed >>> 0;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  return Array.from({ length: count }, () => next() + next() + next() - 1.5);
}

function moments(values: readonly number[]): Record<string, number> {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const power = (n: number) => values.reduce((sum, value) => sum + (value - mean) ** n, 0) / values.length;
  const deviation = Math.sqrt(power(2));
  return { mean, deviation, skewness: power(3) / deviation ** 3, kurtosis: power(4) / deviation ** 4 };
}
