import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTestPostgres } from '@baton/testkit';
import type { TestProject } from 'vitest/node';

/**
 * One PostgreSQL for the whole run: BATON_TEST_DATABASE_URL if it is set (it must be a superuser's), else our own. And one cache of
 * compiled code for the hundreds of processes that tests start, each of which would spend 0.3 s of CPU on it.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'baton-test-compile-cache');
  const given = process.env.BATON_TEST_DATABASE_URL;
  if (given) {
    project.provide('postgresUrl', given);
    return async () => {};
  }
  const server = await startTestPostgres();
  project.provide('postgresUrl', server.url);
  return () => server.stop();
}
