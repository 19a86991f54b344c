#!/usr/bin/env node
// Nothing else is imported before this: an old Node may fail to load it, and would not say why.
import { nodeProblem } from './node-version.ts';

const { stdout, stderr, env, argv, versions } = process;
const problem = nodeProblem(versions.node);
if (problem !== undefined) {
  stderr.write(`${problem}\n`);
  process.exit(1);
}
// A reader that goes away (`baton task list | head`) is no fault.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
const { runCli } = await import('./app.ts');
process.exitCode = await runCli(argv.slice(2), { stdout, stderr, env });
