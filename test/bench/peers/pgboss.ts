import { PgBoss } from 'pg-boss';
import type { JobData, Peer } from './peer.ts';

const BATCH = { batchSize: 100, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 };

/**
 * `default`: its work() as it is. `one`: its fetch() and complete(), one job a call, which is as fast as it takes jobs one by one.
 * `batch`: work() with 100 a fetch, one after the other. `notify`: the same, woken by NOTIFY.
 */
export const pgboss: Peer = {
  store: 'postgres',
  variants: ['default', 'one', 'batch', 'notify'],
  async open(url, variant, connections, isNew) {
    const notify = variant === 'notify';
    const boss = await start(url, connections, { supervise: false, schedule: false, useListenNotify: notify });
    if (isNew) await boss.createQueue('noop', { notify });
    return {
      add: (data) => boss.send('noop', data),
      addMany: (list) =>
        boss.insert(
          'noop',
          list.map((data) => ({ data })),
        ),
      close: () => boss.stop({ graceful: false }),
    };
  },
  async anyPending(sql) {
    const [row] = await sql`select exists (select from pgboss.job where state < 'completed') as pending`;
    return row!.pending as boolean;
  },
  async multiply(sql, jobs) {
    const columns = await sql`select quote_ident(column_name) as name from information_schema.columns
      where table_schema = 'pgboss' and table_name = 'job' and is_generated = 'NEVER' and column_name <> 'id'`;
    const names = columns.map((row) => row.name as string);
    await sql.unsafe(`insert into pgboss.job (id, ${names.join(', ')})
      select gen_random_uuid(), ${names.map((name) => `j.${name}`).join(', ')}
      from (select * from pgboss.job where state < 'active' limit 1) j, generate_series(2, ${jobs})`);
  },
  async work({ url, variant, slots }, onJob) {
    const boss = await start(url, Math.max(10, Math.min(slots + 2, 60)), { useListenNotify: variant === 'notify' });
    if (variant === 'one') {
      let isOn = true;
      const take = async () => {
        while (isOn) {
          const [job] = await boss.fetch<JobData>('noop');
          if (job === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
          else {
            onJob(job.data);
            await boss.complete('noop', job.id);
          }
        }
      };
      const taking = Promise.all(Array.from({ length: slots }, take)).catch((error) => isOn && console.error(error));
      return async () => {
        isOn = false;
        await taking;
        await boss.stop({ graceful: false });
      };
    }
    const settings = variant === 'default' ? {} : variant === 'batch' ? BATCH : { ...BATCH, notify: true };
    await boss.work<JobData>('noop', { localConcurrency: slots, ...settings }, async (jobs) => {
      for (const job of jobs) onJob(job.data);
    });
    return () => boss.stop({ graceful: false });
  },
};

async function start(url: string, max: number, more: object): Promise<PgBoss> {
  const boss = new PgBoss({ connectionString: url, max, ...more });
  boss.on('error', (error) => console.error('pg-boss', error.message));
  await boss.start();
  return boss;
}
