/** `baton`, to be run from another program. */
export { runCli } from './app.ts';
export type { CliContext, ClientFactory, ContextOptions } from './context.ts';
export { EXIT, type ExitCode } from './exit.ts';
