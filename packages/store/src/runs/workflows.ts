import type { Sql } from '../database/connection.ts';

export interface WorkflowRow {
  name: string;
  version: number;
  hash: string;
  description: string;
  definition: string;
  storedForm: string;
  createdAt: Date;
}

const COLUMNS = 'w.name, w.version, w.hash, w.description, w.definition, w.stored_form, w.created_at';

/** One version of a workflow; null version: the newest. */
export async function readWorkflow(
  sql: Sql,
  namespaceId: number,
  name: string,
  version: number | null,
): Promise<WorkflowRow | null> {
  const [row] = await sql.unsafe(
    `select ${COLUMNS} from baton.workflows w where w.namespace_id = $1 and w.name = $2 and ($3::integer is null or w.version = $3)
     order by w.version desc limit 1`,
    [namespaceId, name, version],
    { prepare: true },
  );
  return row ? toWorkflow(row) : null;
}

/** The newest version of a durable function with this version of its code. */
export async function readRelease(
  sql: Sql,
  namespaceId: number,
  name: string,
  release: string,
): Promise<WorkflowRow | null> {
  const [row] = await sql.unsafe(
    `select ${COLUMNS} from baton.workflows w where w.namespace_id = $1 and w.name = $2 and w.stored_form like '{"form":"function"%'
       and w.stored_form::jsonb ->> 'release' = $3 order by w.version desc limit 1`,
    [namespaceId, name, release],
    { prepare: true },
  );
  return row ? toWorkflow(row) : null;
}

/**
 * Stores a definition as the next version of its name, unless the newest version is the same. Null when another writer took the
 * version number at the same moment: read again and repeat.
 */
export async function storeWorkflow(
  sql: Sql,
  w: { namespaceId: number; name: string; hash: string; description: string; definition: string; storedForm: string },
): Promise<WorkflowRow | null> {
  const [row] = await sql.unsafe(
    `insert into baton.workflows as w (namespace_id, name, version, hash, description, definition, stored_form)
     select $1, $2, 1 + coalesce((select max(version) from baton.workflows where namespace_id = $1 and name = $2), 0), $3, $4, $5, $6
     on conflict do nothing returning ${COLUMNS}`,
    [w.namespaceId, w.name, w.hash, w.description, w.definition, w.storedForm],
  );
  return row ? toWorkflow(row) : null;
}

/** Versions of one workflow, the newest first, a keyset page. */
export async function listWorkflowVersions(
  sql: Sql,
  namespaceId: number,
  name: string,
  beforeVersion: number,
  limit: number,
): Promise<WorkflowRow[]> {
  const rows = await sql.unsafe(
    `select ${COLUMNS} from baton.workflows w where w.namespace_id = $1 and w.name = $2 and w.version < $3 order by w.version desc limit $4`,
    [namespaceId, name, beforeVersion, limit],
    { prepare: true },
  );
  return rows.map(toWorkflow);
}

/** Newest version of each workflow by name, a keyset page. */
export async function listWorkflows(
  sql: Sql,
  namespaceId: number,
  afterName: string,
  limit: number,
): Promise<WorkflowRow[]> {
  const rows = await sql.unsafe(
    `select distinct on (w.name) ${COLUMNS} from baton.workflows w where w.namespace_id = $1 and w.name > $2
     order by w.name, w.version desc limit $3`,
    [namespaceId, afterName, limit],
  );
  return rows.map(toWorkflow);
}

function toWorkflow(r: Record<string, unknown>): WorkflowRow {
  return {
    name: r.name as string,
    version: r.version as number,
    hash: r.hash as string,
    description: r.description as string,
    definition: r.definition as string,
    storedForm: r.stored_form as string,
    createdAt: r.created_at as Date,
  };
}
