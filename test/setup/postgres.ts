import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startTestPostgres } from '@baton/testkit';
import type { TestProject } from 'vitest/node';
import { bundlePrograms } from './programs.ts';

interface Started {
  readonly postgresUrl: string;
  readonly programs: string;
  stop(): Promise<void>;
  /** Projects that have not ended yet. */
  users: number;
}

/** This module is loaded once for each project of the run. */
const shared = globalThis as typeof globalThis & { batonTestSetup?: Promise<Started> | undefined };

/**
 * One PostgreSQL for the whole run, of all its projects: BATON_TEST_DATABASE_URL if it is set (it must be a superuser's), else our own.
 * And, for the hundreds of processes that tests start, masters and workers as bundles and one cache of compiled code: each would spend
 * 0.8 s of CPU on loading else.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), 'baton-test-compile-cache');
  shared.batonTestSetup ??= start();
  const started = await shared.batonTestSetup;
  started.users++;
  project.provide('postgresUrl', started.postgresUrl);
  project.provide('programs', started.programs);
  return async () => {
    if (--started.users > 0) return;
    shared.batonTestSetup = undefined;
    await started.stop();
  };
}

async function start(): Promise<Started> {
  const [server, programs] = await Promise.all([startServer(), makePrograms()]);
  return { ...server, programs, users: 0 };
}

async function startServer(): Promise<Pick<Started, 'postgresUrl' | 'stop'>> {
  const given = process.env.BATON_TEST_DATABASE_URL;
  if (given) return { postgresUrl: given, stop: async () => {} };
  const server = await startTestPostgres();
  return { postgresUrl: server.url, stop: async () => void (await server.stop()) };
}

async function makePrograms(): Promise<string> {
  const programs = await bundlePrograms();
  process.env.BATON_TEST_PROGRAMS = programs;
  await fillCompileCache(['@baton/master', '@baton/worker', join(programs, 'master.js'), join(programs, 'worker.js')]);
  return programs;
}

/** 2 s of CPU on a clean clone, else 1. What cannot be loaded is told by the tests that load it. */
async function fillCompileCache(modules: readonly string[]): Promise<void> {
  const main = fileURLToPath(new URL('./compile.ts', import.meta.url));
  await Promise.all(modules.map((module) => promisify(execFile)(process.execPath, [main, module]).catch(() => {})));
}
