import { randomUUID } from 'node:crypto';
import { DBOS, DBOSClient } from '@dbos-inc/dbos-sdk';
import type { Peer, PeerWork } from './peer.ts';

// Of the driver that it uses, about how it uses it.
process.noDeprecation = true;
const quiet = { info() {}, debug() {}, warn() {}, error: (...said: unknown[]) => console.error(...said) };
const JOB = { queueName: 'noop', workflowName: 'noop' };
/** Asks each 10 ms instead of each second. */
const settingsOf = ({ variant, slots }: PeerWork) =>
  variant === 'tuned' ? { workerConcurrency: slots, minPollingIntervalMs: 10 } : {};

/** Durable workflows on a queue: the one peer that keeps a history. */
export const dbos: Peer = {
  store: 'postgres',
  variants: ['default', 'tuned'],
  claimsAll: true,
  async open(url, _, connections, isNew) {
    if (isNew) {
      // Its tables are made by whoever executes.
      DBOS.setConfig({ name: 'bench', systemDatabaseUrl: url, logger: quiet, applicationVersion: '1' });
      await DBOS.launch();
      await DBOS.registerQueue('noop', { onConflict: 'never_update' });
      await DBOS.shutdown();
    }
    const client = await DBOSClient.create({
      systemDatabaseUrl: url,
      systemDatabasePoolSize: connections,
      applicationName: 'bench',
      logger: quiet,
    });
    return { add: (data) => client.enqueue(JOB, data), addMany: null, close: () => client.destroy() };
  },
  async anyPending(sql) {
    const [row] = await sql`select exists (
      select from dbos.workflow_status where status in ('ENQUEUED', 'PENDING')) as pending`;
    return row!.pending as boolean;
  },
  async multiply(sql, jobs) {
    const columns = await sql`select quote_ident(column_name) as name from information_schema.columns
      where table_schema = 'dbos' and table_name = 'workflow_status' and is_generated = 'NEVER'
        and column_name not in ('workflow_uuid', 'created_at')`;
    const names = columns.map((row) => row.name as string);
    await sql.unsafe(`with one as (select * from dbos.workflow_status where status = 'ENQUEUED' limit 1),
      ids as materialized (select gen_random_uuid()::text as id, n from generate_series(2, ${jobs}) n),
      made as (insert into dbos.workflow_status (workflow_uuid, created_at, ${names.join(', ')})
               select ids.id, one.created_at + n / 20, ${names.map((name) => `one.${name}`).join(', ')} from one, ids returning 1)
      insert into dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
      select ids.id, i.inputs, i.retention_timestamp from ids, dbos.workflow_input i join one using (workflow_uuid)`);
  },
  async prepare(options) {
    // Before it is launched: a queue that is first seen asking each second only comes down by a tenth each time.
    const client = await DBOSClient.create({ systemDatabaseUrl: options.url, applicationName: 'bench', logger: quiet });
    await client.registerQueue('noop', { ...settingsOf(options), onConflict: 'always_update' });
    await client.destroy();
  },
  async work({ url, slots, index }, onJob) {
    DBOS.registerWorkflow(async (data: never) => onJob(data), { name: 'noop' });
    DBOS.setConfig({
      name: 'bench',
      systemDatabaseUrl: url,
      systemDatabasePoolSize: Math.max(10, Math.min(slots, 40)),
      logger: quiet,
      applicationVersion: '1',
      executorID: `worker ${index} ${randomUUID()}`,
    });
    await DBOS.launch();
    return () => DBOS.shutdown();
  },
};
