import { type Environment, setVariables } from './config.ts';

/**
 * Runs another process's main module in this one; it stays until that module's work is over. Loaded by name, so that
 * the command does not carry the master's and the worker's code unless it is asked to be one of them.
 *
 * @param settings environment variables that say what the command line said; they win over those that are set
 */
export async function runMain(
  specifier: '@baton/master/main' | '@baton/worker/main',
  settings: Environment = {},
): Promise<void> {
  setVariables(settings);
  await import(import.meta.resolve(specifier));
}
