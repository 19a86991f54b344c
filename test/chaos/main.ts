/**
 * Chaos: `npm run chaos -- --minutes M --seed S`. The report on stdout, what happens on stderr. Exit codes: 0 nothing was violated,
 * 1 something was, or the run could not be made (also: interrupted), 64 wrong usage.
 */
import { readOptions, USAGE, UsageError } from './options.ts';
import { asTable } from './report.ts';
import { runChaos } from './run.ts';

/** Ctrl-C must not leave the Postgres behind, which outlives its parent by design. */
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new Error(signal)));
});
interrupted.catch(() => {});

const began = performance.now();
const say = (line: string) =>
  process.stderr.write(`${((performance.now() - began) / 1_000).toFixed(1).padStart(7)} s  ${line}\n`);
let failed = true;
try {
  const options = readOptions(process.argv.slice(2));
  const report = await runChaos(options, say, interrupted);
  failed = report.failed;
  process.stdout.write(options.output === 'json' ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n\n${USAGE}`);
    process.exit(64);
  }
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
}
process.exit(failed ? 1 : 0);
