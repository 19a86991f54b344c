import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startTestPostgres } from '@baton/testkit';
import type { TestProject } from 'vitest/node';
import { bundlePrograms } from './programs.ts';

/**
 * One PostgreSQL for the whole run: BATON_TEST_DATABASE_URL if it is set (it must be a superuser's), else our own. And, for
 * the hundreds of processes that tests start, masters and workers as bundles and one cache of compiled code: each would spend 0.8 s of CPU
 * on loading else.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'baton-test-compile-cache');
  const [server] = await Promise.all([startServer(project), makePrograms(project)]);
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

async function makePrograms(project: TestProject): Promise<void> {
  const programs = await bundlePrograms();
  project.provide('programs', programs);
  process.env.BATON_TEST_PROGRAMS = programs;
  await fillCompileCache(['@baton/master', '@baton/worker', join(programs, 'master.js'), join(programs, 'worker.js')]);
}

/** 2 s of CPU on a clean clone, else 1. What cannot be loaded is told by the tests that load it. */
async function fillCompileCache(modules: readonly string[]): Promise<void> {
  const main = fileURLToPath(new URL('./compile.ts', import.meta.url));
  await Promise.all(modules.map((module) => promisify(execFile)(process.execPath, [main, module]).catch(() => {})));
}
