import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startTestPostgres } from '@baton/testkit';
import type { TestProject } from 'vitest/node';

/**
 * One PostgreSQL for the whole run: BATON_TEST_DATABASE_URL if it is set (it must be a superuser's), else our own. And one cache of
 * compiled code for the hundreds of processes that tests start, each of which would spend 0.4 s of CPU on it.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'baton-test-compile-cache');
  const [server] = await Promise.all([startServer(project), fillCompileCache()]);
  return async () => server?.stop();
}

async function startServer(project: TestProject) {
  const given = process.env.BATON_TEST_DATABASE_URL;
  if (given) {
    project.provide('postgresUrl', given);
    return undefined;
  }
  const server = await startTestPostgres();
  project.provide('postgresUrl', server.url);
  return server;
}

/** 1.7 s of CPU on a clean clone, else 0.7. What cannot be loaded is told by the tests that load it. */
async function fillCompileCache(): Promise<void> {
  const main = fileURLToPath(new URL('./compile.ts', import.meta.url));
  await promisify(execFile)(process.execPath, [main]).catch(() => {});
}
