import { startTestPostgres } from '@baton/testkit';
import type { TestProject } from 'vitest/node';

/** One PostgreSQL for the whole run: BATON_TEST_DATABASE_URL if it is set (it must be a superuser's), else our own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.BATON_TEST_DATABASE_URL;
  if (given) {
    project.provide('postgresUrl', given);
    return async () => {};
  }
  const server = await startTestPostgres();
  project.provide('postgresUrl', server.url);
  return () => server.stop();
}
