import type { Sql } from '../database/connection.ts';
import { byteas, bytesOfHex, numbers, texts } from '../database/literals.ts';
import { COMPLETE_STEPS, COMPLETED, type Ended, type Success, successParams } from '../tasks/complete.ts';

/** A file that a task produced, or is handed. */
export interface ArtifactRef {
  name: string;
  /** Hex. */
  sha256: string;
  sizeBytes: number;
}

export interface ArtifactInput extends ArtifactRef {
  /** Null: not known. */
  producerTaskId: string | null;
}

export interface ArtifactRow extends ArtifactRef {
  taskId: string;
  worker: string;
  createdAt: Date;
  /** Of a run. */
  nodeId: string | null;
  item: number | null;
}

/** A success that leaves files behind. */
export interface SuccessWithArtifacts extends Success {
  artifacts: readonly ArtifactRef[];
}

/**
 * As COMPLETE, and the files of those that end in the same statement: whoever sees the one sees the other, and of a lease that is not
 * held neither is written. A statement of its own: plain tasks do not pay for it.
 */
export const COMPLETE_WITH_ARTIFACTS = `/* baton complete with artifacts */
${COMPLETE_STEPS}, kept_artifacts as (
  insert into baton.artifacts (task_id, size_bytes, created_at, namespace_id, worker_id, epoch, sha256, name)
  select e.task_id, f.size_bytes, e.at, e.namespace_id, e.worker_id, e.epoch, f.sha256, f.name
  from unnest($10::bigint[], $11::integer[], $12::bigint[], $13::bigint[], $14::bytea[], $15::text[])
    f(task_id, epoch, session_id, size_bytes, sha256, name)
  join ended e on e.task_id = f.task_id and e.epoch = f.epoch and e.session_id = f.session_id
)
${COMPLETED}`;

/** @returns as `completeTasks` */
export async function completeWithArtifacts(sql: Sql, batch: readonly SuccessWithArtifacts[]): Promise<Ended[]> {
  const files = batch.flatMap((success) => success.artifacts.map((file) => ({ success, file })));
  const rows = await sql.unsafe(
    COMPLETE_WITH_ARTIFACTS,
    [
      ...successParams(batch),
      numbers(files.map(({ success }) => success.taskId)),
      numbers(files.map(({ success }) => success.epoch)),
      numbers(files.map(({ success }) => success.sessionId)),
      numbers(files.map(({ file }) => file.sizeBytes)),
      byteas(files.map(({ file }) => bytesOfHex(file.sha256))),
      texts(files.map(({ file }) => file.name)),
    ],
    { prepare: true },
  );
  return rows.map((r) => ({ taskId: r.task_id as string, runId: r.run_id as string | null }));
}

export interface NewArtifactInputs {
  taskId: string;
  namespaceId: number;
  inputs: readonly ArtifactInput[];
}

/**
 * Writes which files tasks will be handed, before the tasks: a task that is there has its files. What becomes of no task goes with the
 * history. Repeatable.
 */
export async function saveArtifactInputs(sql: Sql, batch: readonly NewArtifactInputs[]): Promise<void> {
  const all = batch.flatMap(({ taskId, namespaceId, inputs }) => inputs.map((i) => ({ taskId, namespaceId, ...i })));
  await sql.unsafe(
    `/* baton save artifact inputs */
     insert into baton.artifact_inputs (task_id, producer_task_id, size_bytes, namespace_id, sha256, name)
     select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::bytea[], $6::text[])
       i(task_id, producer_task_id, size_bytes, namespace_id, sha256, name)
     order by task_id, name on conflict do nothing`,
    [
      numbers(all.map((i) => i.taskId)),
      numbers(all.map((i) => i.producerTaskId)),
      numbers(all.map((i) => i.sizeBytes)),
      numbers(all.map((i) => i.namespaceId)),
      byteas(all.map((i) => bytesOfHex(i.sha256))),
      texts(all.map((i) => i.name)),
    ],
    { prepare: true },
  );
}

/** What these tasks are handed, by task, by name. */
export async function readArtifactInputs(sql: Sql, taskIds: readonly string[]): Promise<Map<string, ArtifactInput[]>> {
  const rows = await sql.unsafe(
    `/* baton read artifact inputs */
     select i.task_id, i.name, encode(i.sha256, 'hex') as sha256, i.size_bytes, i.producer_task_id
     from unnest($1::bigint[]) t(id) join baton.artifact_inputs i on i.task_id = t.id order by i.task_id, i.name`,
    [numbers(taskIds)],
    { prepare: true },
  );
  const found = new Map<string, ArtifactInput[]>();
  for (const r of rows) {
    const id = r.task_id as string;
    const input = { ...toRef(r), producerTaskId: r.producer_task_id as string | null };
    const list = found.get(id);
    if (list) list.push(input);
    else found.set(id, [input]);
  }
  return found;
}

/** Where a page of artifacts goes on. */
export interface ArtifactKey {
  taskId: string;
  name: string;
}

export interface ArtifactPage {
  namespaceId: number;
  /** The task that produced them; null: any of the run. */
  taskId: string | null;
  runId: string | null;
  nodeId: string | null;
  name: string | null;
  after: ArtifactKey | null;
  limit: number;
}

/**
 * Artifacts of the tasks that a run's nodes, items and steps have now, or of one task, by task and name. A node whose result is an earlier
 * task's has that task's artifacts.
 */
export const LIST_ARTIFACTS = `/* baton list artifacts */
with chosen as (
  select $2::bigint as task_id, null::text as node_id, null::integer as item where $2::bigint is not null
  union all
  select n.task_id, n.node_id, null from baton.run_nodes n
  where n.run_id = $3 and ($4::text is null or n.node_id = $4) and n.task_id is not null
  union all
  select i.task_id, n.node_id, i.item from baton.run_nodes n join baton.run_items i on i.run_id = n.run_id and i.ordinal = n.ordinal
  where n.run_id = $3 and ($4::text is null or n.node_id = $4) and i.task_id is not null
  union all
  select j.ref_id, j.name, null from baton.journal j
  where j.run_id = $3 and j.kind = 'task' and ($4::text is null or j.name = $4) and j.ref_id is not null
)
select c.task_id, c.node_id, c.item, a.name, encode(a.sha256, 'hex') as sha256, a.size_bytes, a.created_at, w.name as worker
from chosen c join baton.artifacts a on a.task_id = c.task_id and a.namespace_id = $1 join baton.workers w on w.id = a.worker_id
where ($5::text is null or a.name = $5) and ($6::bigint is null or (a.task_id, a.name) > ($6::bigint, $7::text))
order by a.task_id, a.name limit $8`;

export async function listArtifacts(sql: Sql, page: ArtifactPage): Promise<ArtifactRow[]> {
  const { namespaceId, taskId, runId, nodeId, name, after, limit } = page;
  const rows = await sql.unsafe(
    LIST_ARTIFACTS,
    [namespaceId, taskId, runId, nodeId, name, after?.taskId ?? null, after?.name ?? null, limit],
    { prepare: true },
  );
  return rows.map((r) => ({
    ...toRef(r),
    taskId: r.task_id as string,
    worker: r.worker as string,
    createdAt: r.created_at as Date,
    nodeId: r.node_id as string | null,
    item: r.item as number | null,
  }));
}

/** Whether there is any in this namespace. */
export async function hasArtifacts(sql: Sql, namespaceId: number): Promise<boolean> {
  const rows = await sql.unsafe('select from baton.artifacts where namespace_id = $1 limit 1', [namespaceId], {
    prepare: true,
  });
  return rows.length > 0;
}

/** One file of each of these tasks; missing where there is none of that name. By task. */
export async function findArtifacts(
  sql: Sql,
  taskIds: readonly string[],
  name: string,
): Promise<Map<string, ArtifactRef>> {
  const rows = await sql.unsafe(
    `/* baton find artifacts */ select a.task_id, a.name, encode(a.sha256, 'hex') as sha256, a.size_bytes
     from unnest($1::bigint[]) t(id) join baton.artifacts a on a.task_id = t.id and a.name = $2`,
    [numbers(taskIds), name],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.task_id as string, toRef(r)]));
}

/** The tasks of the items of a node, by item: also of those whose end is written only by the step that asks. */
export async function itemTaskIds(sql: Sql, runId: string, ordinal: number): Promise<Map<number, string>> {
  const rows = await sql.unsafe(
    `/* baton item tasks */ select item, task_id from baton.run_items
     where run_id = $1 and ordinal = $2 and task_id is not null order by item`,
    [runId, ordinal],
    { prepare: true },
  );
  return new Map(rows.map((r) => [r.item as number, r.task_id as string]));
}

/** A living worker on which files are likely to lie. */
export interface ArtifactHolder {
  workerId: number;
  workerName: string;
  capabilities: Record<string, unknown>;
  /** Of the files asked for, about. */
  bytes: number;
}

/** Of one file, so many producers and users are looked at. */
const HOLDERS_SEEN = 10;

/**
 * Active workers that have produced some of these files, or succeeded with a task that was handed them: their caches have them, unless
 * they needed the place. Those with the most bytes first.
 */
export async function artifactHolders(
  sql: Sql,
  namespaceId: number,
  files: readonly Pick<ArtifactRef, 'sha256' | 'sizeBytes'>[],
): Promise<ArtifactHolder[]> {
  const rows = await sql.unsafe(
    `/* baton artifact holders */
     with held as materialized (
       select i.sha256, i.size_bytes, h.worker_id
       from (select distinct on (sha256) * from unnest($2::bytea[], $3::bigint[]) i(sha256, size_bytes)) i cross join lateral (
         (select a.worker_id from baton.artifacts a
          where a.namespace_id = $1 and a.sha256 = i.sha256 order by a.task_id desc limit ${HOLDERS_SEEN})
         union
         (select o.worker_id
          from (select u.task_id from baton.artifact_inputs u
                where u.namespace_id = $1 and u.sha256 = i.sha256 order by u.task_id desc limit ${HOLDERS_SEEN}) u
          join baton.outcomes o on o.task_id = u.task_id and o.state = 'succeeded')
       ) h where h.worker_id is not null
     ), summed as (
       select worker_id, sum(size_bytes) as bytes from held group by worker_id
     )
     select w.id, w.name, w.capabilities, h.bytes
     from summed h join baton.workers w on w.id = h.worker_id join baton.sessions s on s.id = w.session_id
     where s.state = 'active' and not s.held_back and s.expires_at > clock_timestamp()
     order by h.bytes desc, w.id limit 5`,
    [namespaceId, byteas(files.map((f) => bytesOfHex(f.sha256))), numbers(files.map((f) => f.sizeBytes))],
    { prepare: true },
  );
  return rows.map((r) => ({
    workerId: r.id as number,
    workerName: r.name as string,
    capabilities: r.capabilities as Record<string, unknown>,
    bytes: Number(r.bytes),
  }));
}

const CHUNK = 5_000;

/** Forgets the files of tasks that are gone, some of them: their blobs may then go, too. @returns how many */
export async function dropArtifacts(sql: Sql, cutoff: { id: string }): Promise<number> {
  let dropped = 0;
  for (const table of ['artifacts', 'artifact_inputs']) {
    const rows = await sql.unsafe(
      `/* baton drop ${table} */ delete from baton.${table} where (task_id, name) in (
         select a.task_id, a.name from baton.${table} a
         where a.task_id < $1 and not exists (select from baton.tasks t where t.id = a.task_id) order by a.task_id limit ${CHUNK})
       returning 1`,
      [cutoff.id],
      { prepare: true },
    );
    dropped += rows.length;
  }
  return dropped;
}

const toRef = (r: Record<string, unknown>): ArtifactRef => ({
  name: r.name as string,
  sha256: r.sha256 as string,
  sizeBytes: Number(r.size_bytes),
});
