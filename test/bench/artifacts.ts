import { createBaton } from '@baton/client';
import type { getFile, putFile } from './artifacts.tasks.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

/** Files by tasks: bytes a second as the task sees them, from its call to its answer. MB: 1 000 000 bytes. */
export interface ArtifactRun {
  /** put: hashed, cached and uploaded. known: the master has it. get: fetched, hashed and cached. cached: it is at hand. */
  what: 'put' | 'put known' | 'get' | 'get cached';
  mib: number;
  mbPerSecond: number;
}

const MIB = 1024 * 1024;

/** Two workers without a disk in common: one produces, the other is handed it. `tasks` is the size of the file, MiB. */
export async function measureArtifacts(
  server: BenchServer,
  options: BenchOptions,
  done: (run: ArtifactRun) => void,
): Promise<ArtifactRun[]> {
  const tasksModule = new URL('artifacts.tasks.ts', import.meta.url);
  await using product = await startProduct(server, options, tasksModule);
  await product.addWorkers(1, 1, { BATON_CACHE_DIR: 'cache-1', BATON_WORKER_TAGS: 'one' });
  await product.addWorkers(1, 1, { BATON_CACHE_DIR: 'cache-2', BATON_WORKER_TAGS: 'two' });
  const baton = createBaton({ url: product.url });
  const mib = options.tasks;
  const runs: ArtifactRun[] = [];
  const note = (what: ArtifactRun['what'], ms: number) => {
    const run = { what, mib, mbPerSecond: (mib * MIB) / 1000 / ms };
    runs.push(run);
    done(run);
  };
  const seed = `${Date.now()}`;
  type Put = Awaited<ReturnType<(typeof putFile)['run']>>;
  type Got = Awaited<ReturnType<(typeof getFile)['run']>>;
  const put = async (tag: string) =>
    (await baton.submit<Put>({ kind: 'put-file', input: { seed, mib }, tags: [tag] })).result();
  const first = await put('one');
  note('put', first.ms);
  for (const what of ['get', 'get cached'] as const) {
    const options = { kind: 'get-file', tags: ['two'], artifacts: { data: first.file } };
    note(what, (await (await baton.submit<Got>(options)).result()).ms);
  }
  note('put known', (await put('two')).ms);
  return runs;
}
