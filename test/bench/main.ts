/**
 * The benchmarks: `npm run bench -- drain|submit|latency`. Figures on stdout, what happens on stderr. Exit codes: 0 measured,
 * 1 not measured (also: a run whose history is not complete), 64 wrong usage.
 */
import { runBench } from './bench.ts';
import { readOptions, USAGE, UsageError } from './options.ts';
import { asTable } from './report.ts';

try {
  const options = readOptions(process.argv.slice(2));
  const report = await runBench(options, (line) => process.stderr.write(`${line}\n`));
  process.stdout.write(options.output === 'json' ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n\n${USAGE}`);
    process.exit(64);
  }
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exit(1);
}
process.exit(0);
