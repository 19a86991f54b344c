/**
 * Runs another process's main module in this one; it stays until that module's work is over. Loaded by name, so that
 * the command does not carry the master's and the worker's code unless it is asked to be one of them.
 */
export async function runMain(specifier: '@baton/master/main' | '@baton/worker/main'): Promise<void> {
  await import(import.meta.resolve(specifier));
}
