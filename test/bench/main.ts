/**
 * The benchmarks: `npm run bench -- drain|submit|latency|…`. Figures on stdout, what happens on stderr. Exit codes: 0 measured,
 * 1 not measured (also: interrupted, or a run whose history is not complete), 64 wrong usage.
 */
import { runBench } from './bench.ts';
import { readOptions, USAGE, UsageError } from './options.ts';
import { asTable } from './report.ts';

/** Ctrl-C must not leave the embedded server behind, which outlives its parent by design. Master and workers end with this process. */
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => reject(new Error(signal)));
});
interrupted.catch(() => {});

try {
  const options = readOptions(process.argv.slice(2));
  const report = await runBench(options, (line) => process.stderr.write(`${line}\n`), interrupted);
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
