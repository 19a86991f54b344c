import { parseArgs } from 'node:util';

export interface ChaosOptions {
  /** How long clients and faults are at it; settling and checking come on top. */
  readonly minutes: number;
  /** Decides the faults and what clients do, not when the machine gets to it. */
  readonly seed: string;
  readonly output: 'table' | 'json';
  readonly masters: number;
  readonly workers: number;
  /** Logs and ledger are kept after a run without violations, too. */
  readonly keep: boolean;
}

/** The command line is wrong; the message says how, and what there is. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const USAGE = `npm run chaos -- [--minutes M] [--seed S] [options]

  Masters, workers with real child processes, clients and a Postgres of their own, and everything that can go wrong between
  them, at once. Then all is healed, and the whole history is checked.

  --minutes M             default 1; may be a fraction
  --seed S                any text; default: drawn at random and printed. It decides faults and work, not their timing
  -o, --output table|json default table
  --masters N             default 3
  --workers N             default 5
  --keep                  keep logs and ledger after success, too (after a failure they are always kept)

Exit codes: 0 nothing was violated, 1 something was (the seed and the directory of the logs are printed), 64 wrong usage.
`;

/** @throws UsageError */
export function readOptions(argv: readonly string[]): ChaosOptions {
  const { values } = parse(argv);
  const output = values.output ?? 'table';
  if (output !== 'table' && output !== 'json') throw new UsageError(`-o ${output}: there are table and json`);
  const number = (name: 'minutes' | 'masters' | 'workers', fallback: number, least: number): number => {
    const value = Number(values[name] ?? fallback);
    if (!(value >= least && value <= 10_000)) throw new UsageError(`--${name} ${values[name]}: from ${least} on`);
    return value;
  };
  return Object.freeze({
    minutes: number('minutes', 1, 0.2),
    seed: values.seed ?? String(Math.floor(Math.random() * 1e9)),
    output,
    masters: Math.floor(number('masters', 3, 1)),
    workers: Math.floor(number('workers', 5, 1)),
    keep: values.keep ?? false,
  });
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        output: { type: 'string', short: 'o' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        masters: { type: 'string' },
        workers: { type: 'string' },
        keep: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
