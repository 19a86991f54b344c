import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import type { Peer } from './peer.ts';

const logger = new Logger(() => () => {});
/** The settings that its documentation names for speed: a local queue, and ends written in batches. */
const TUNED = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };

/** Ended jobs are deleted: it keeps no history. */
export const graphile: Peer = {
  store: 'postgres',
  variants: ['default', 'tuned'],
  async open(url, _, connections, isNew) {
    const utils = await makeWorkerUtils({
      preset: { worker: { connectionString: url, maxPoolSize: connections, logger } },
    });
    if (isNew) await utils.migrate();
    return {
      add: (data) => utils.addJob('noop', data),
      addMany: (list) => utils.addJobs(list.map((payload) => ({ identifier: 'noop', payload }))),
      close: async () => utils.release(),
    };
  },
  async anyPending(sql) {
    const [row] = await sql`select exists (select from graphile_worker._private_jobs) as pending`;
    return row!.pending as boolean;
  },
  async multiply(sql, jobs) {
    await sql`insert into graphile_worker._private_jobs (task_id, payload)
      select j.task_id, j.payload from graphile_worker._private_jobs j, generate_series(2, ${jobs}::int)`;
  },
  async work({ url, variant, slots }, onJob) {
    const runner = await run({
      preset: {
        worker: {
          connectionString: url,
          concurrentJobs: slots,
          maxPoolSize: Math.max(10, slots + 2),
          logger,
          ...(variant === 'tuned' && TUNED),
        },
      },
      noHandleSignals: true,
      taskList: { noop: async (data) => onJob(data as never) },
    });
    return () => runner.stop();
  },
};
