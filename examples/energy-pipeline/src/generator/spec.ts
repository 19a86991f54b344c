import { StepError } from '../step.ts';

/** What the generator is asked to make. */
export type Spec =
  | { readonly source: 'households'; readonly households: number; readonly hours: number; readonly seed: number }
  | { readonly source: 'iowa-electricity' };

export const DEFAULT_SPEC: Spec = { source: 'households', households: 12, hours: 168, seed: 42 };

/** The most readings one call makes (households × hours). */
export const MAX_READINGS = 100_000;

const SOURCES = ['households', 'iowa-electricity'];
const RANGES = { households: [1, 1000], hours: [1, 8784], seed: [0, 2 ** 32 - 1] } as const;

/**
 * Reads `{ "source": "households", "households", "hours", "seed" }` (numbers optional) or
 * `{ "source": "iowa-electricity" }`.
 *
 * @throws StepError listing everything that is wrong, not only the first.
 */
export function parseSpec(text: string): Spec {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new StepError(`it is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new StepError('it must hold a JSON object, such as { "source": "iowa-electricity" }');
  }
  const given = new Map<string, unknown>(Object.entries(value));
  const source = given.get('source') ?? 'households';
  if (typeof source !== 'string' || !SOURCES.includes(source)) {
    throw new StepError(`source must be one of ${SOURCES.join(', ')}, but is ${JSON.stringify(source)}`);
  }

  const problems: string[] = [];
  const allowed = source === 'households' ? ['source', 'households', 'hours', 'seed'] : ['source'];
  for (const key of given.keys()) {
    if (!allowed.includes(key)) problems.push(`"${key}" is unknown for ${source}`);
  }
  const spec = { ...DEFAULT_SPEC } as Extract<Spec, { source: 'households' }>;
  const numbers = { households: spec.households, hours: spec.hours, seed: spec.seed };
  if (source === 'households') {
    for (const key of ['households', 'hours', 'seed'] as const) {
      const number = given.get(key) ?? numbers[key];
      const [min, max] = RANGES[key];
      if (typeof number !== 'number' || !Number.isInteger(number) || number < min || number > max) {
        problems.push(`${key} must be a whole number from ${min} to ${max}, but is ${JSON.stringify(number)}`);
      } else numbers[key] = number;
    }
    if (numbers.households * numbers.hours > MAX_READINGS) {
      problems.push(`households × hours is ${numbers.households * numbers.hours}; the limit is ${MAX_READINGS}`);
    }
  }
  if (problems.length > 0) throw new StepError(problems.join('; '));
  return source === 'households' ? { source, ...numbers } : { source: 'iowa-electricity' };
}
