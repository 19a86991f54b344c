import { parseArgs } from 'node:util';
import { type Campaign, runCampaign } from './campaign.ts';
import { MUTATIONS, type Mutation, type SimulationResult, simulate } from './simulation.ts';

const HELP = `npm run simulate -- [--seeds N] [--from S] [--threads T] [--mutate GUARD] [-o text|json]
npm run simulate -- --seed N [--trace] [--mutate GUARD]
npm run simulate -- --sql [--seeds N] [--from S] [--steps K]

Seeds of the simulation (see docs/guide/proof.md). With --seed, one of them: --trace prints what happens. With --mutate, a guard is
left out, and seeds that find it out are what is hoped for. With --sql, random operations on the model and on Postgres instead.

Guards: ${MUTATIONS.map((name) => `no-${name.replaceAll(' ', '-')}`).join(', ')}
`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    from: { type: 'string' },
    threads: { type: 'string' },
    mutate: { type: 'string' },
    trace: { type: 'boolean' },
    sql: { type: 'boolean' },
    steps: { type: 'string' },
    output: { type: 'string', short: 'o' },
    help: { type: 'boolean', short: 'h' },
  },
});

/** A whole number from 0 on, or a word to the user. */
function wholeNumber(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const number = Number(text);
  if (Number.isSafeInteger(number) && number >= 0) return number;
  console.error(`--${name} ${text}: not a whole number`);
  process.exit(2);
}

function mutationOf(text: string | undefined): Mutation | undefined {
  if (text === undefined) return undefined;
  const name = text.replace(/^no-/, '').replaceAll('-', ' ');
  const found = MUTATIONS.find((mutation) => mutation === name);
  if (found) return found;
  console.error(`--mutate ${text}: no such guard\n\n${HELP}`);
  process.exit(2);
}

const asJson = values.output === 'json';
const mutation = mutationOf(values.mutate);
const mutate = values.mutate === undefined ? '' : ` --mutate ${values.mutate}`;

function show({ seed, violations }: Pick<SimulationResult, 'seed' | 'violations'>): void {
  console.log(`seed ${seed} failed; again: npm run simulate -- --seed ${seed}${mutate} --trace`);
  for (const { invariant, what } of violations.slice(0, 5)) console.log(`  invariant ${invariant}: ${what}`);
  if (violations.length > 5) console.log(`  and ${violations.length - 5} more`);
}

function showCampaign(campaign: Campaign): void {
  const { seeds, failed, tasks, faults, counts, wallMs, seedsPerMinute } = campaign;
  const total = Object.values(faults).reduce((sum, n) => sum + n, 0);
  console.log(`${seeds} seeds, ${failed.length} failed; ${tasks} tasks, ${total} faults`);
  console.log(`${(wallMs / 1000).toFixed(1)} s, ${seedsPerMinute} seeds a minute`);
  const list = (of: Record<string, number>) =>
    Object.entries(of)
      .map(([name, n]) => `${name} ${n}`)
      .join(', ');
  console.log(`faults: ${list(faults)}`);
  console.log(`exercised: ${list(counts)}`);
}

async function main(): Promise<number> {
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  if (values.sql) {
    const { compareWithSql } = await import('./compare-with-sql.ts');
    const seeds = wholeNumber('seeds', values.seeds, 10);
    return compareWithSql({
      from: wholeNumber('from', values.from, 1),
      seeds,
      steps: wholeNumber('steps', values.steps, 400),
    });
  }
  if (values.seed !== undefined) {
    const trace = (atMs: number, what: string) => console.log(atMs.toFixed(1).padStart(9), what);
    const seed = wholeNumber('seed', values.seed, 1);
    const result = simulate({ seed, mutation, history: true, trace: values.trace ? trace : undefined });
    if (asJson) console.log(JSON.stringify(result));
    else if (result.violations.length > 0) show(result);
    else console.log(`seed ${seed} holds: ${result.tasks} tasks, ${Math.round(result.virtualMs)} ms of virtual time`);
    return result.violations.length > 0 ? 1 : 0;
  }
  const campaign = await runCampaign({
    from: wholeNumber('from', values.from, 1),
    seeds: wholeNumber('seeds', values.seeds, 1_000),
    mutation,
    ...(values.threads !== undefined && { threads: wholeNumber('threads', values.threads, 1) }),
    ...(!asJson && { onFailure: show }),
  });
  if (asJson) console.log(JSON.stringify(campaign));
  else showCampaign(campaign);
  return campaign.failed.length > 0 ? 1 : 0;
}

// Whoever reads may have seen enough.
process.stdout.on('error', () => process.exit(1));
process.exitCode = await main();
