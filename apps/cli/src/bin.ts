#!/usr/bin/env node
import { runCli } from './app.ts';

const { stdout, stderr, env, argv } = process;
// A reader that goes away (`baton task list | head`) is no fault.
stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.exitCode = await runCli(argv.slice(2), { stdout, stderr, env });
