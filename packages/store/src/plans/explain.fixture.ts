import type { Sql } from '../database/connection.ts';

/** A scan of a plan as it was carried out. */
export interface Scan {
  /** "Index Scan", "Seq Scan", … */
  node: string;
  /** The table, or its partition; the index where there is one. */
  relation: string;
  index: string | null;
  /** Rows that the scan looked at, over all its loops: those it gave and those it threw away. */
  rows: number;
  loops: number;
}

export interface Explained {
  scans: Scan[];
  /** Rows of what the statement itself made (its parameters, its CTEs) that it looked at: with a join of a batch with itself they grow with its square. */
  walked: number;
  /** Pages that the statement touched. */
  pages: number;
  ms: number;
  /** The plan as Postgres prints it, for the message of a test that fails. */
  text: string;
}

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  'Rows Removed by Join Filter'?: number;
  'Rows Removed by Index Recheck'?: number;
  'Shared Hit Blocks': number;
  'Shared Read Blocks': number;
  Plans?: PlanNode[];
}

/** What a statement was called with, recorded instead of sent. */
export interface Recorded {
  text: string;
  parameters: readonly unknown[];
}

/** Calls a function of the store with a pool that only writes down what it is asked. */
export async function record(call: (sql: Sql) => Promise<unknown>): Promise<Recorded> {
  let recorded: Recorded | undefined;
  const recorder = {
    unsafe: async (text: string, parameters: unknown[]) => {
      recorded ??= { text, parameters };
      return [];
    },
  } as unknown as Sql;
  await call(recorder).catch(() => undefined); // some read a row of the answer
  return recorded!;
}

/**
 * Prepares a statement, carries it out under EXPLAIN ANALYZE and rolls it back.
 * @param sql a pool of one connection, with the session settings of the pool that runs the statement
 */
export async function explain(sql: Sql, { text, parameters }: Recorded, generic: boolean): Promise<Explained> {
  const call = `explained${parameters.length > 0 ? `(${parameters.map(literal).join(', ')})` : ''}`;
  const mode = generic ? 'force_generic_plan' : 'force_custom_plan';
  await sql.unsafe(`begin; set local plan_cache_mode = ${mode}`);
  try {
    await sql.unsafe(`prepare explained as ${text}`);
    const [row] = await sql.unsafe(`explain (analyze, buffers, timing off, format json) execute ${call}`);
    const [{ Plan: plan, 'Execution Time': ms }] = row!['QUERY PLAN'] as [{ Plan: PlanNode; 'Execution Time': number }];
    const scans: Scan[] = [];
    collect(plan, scans);
    return {
      scans,
      walked: walked(plan),
      pages: plan['Shared Hit Blocks'] + plan['Shared Read Blocks'],
      ms,
      text: show(plan),
    };
  } finally {
    await sql.unsafe('rollback');
    await sql.unsafe('deallocate all');
  }
}

function collect(node: PlanNode, into: Scan[]): void {
  const loops = node['Actual Loops'];
  if (node['Relation Name'] && node['Node Type'] !== 'ModifyTable') {
    const each =
      node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0);
    into.push({
      node: node['Node Type'],
      relation: node['Relation Name'],
      index: node['Index Name'] ?? null,
      rows: Math.round(each * loops),
      loops,
    });
  }
  for (const child of node.Plans ?? []) collect(child, into);
}

function walked(node: PlanNode): number {
  const isOwn = ['CTE Scan', 'Function Scan', 'Materialize', 'Subquery Scan'].includes(node['Node Type']);
  const each = (isOwn ? node['Actual Rows'] : 0) + (node['Rows Removed by Join Filter'] ?? 0);
  const filtered = isOwn ? (node['Rows Removed by Filter'] ?? 0) : 0;
  const below = (node.Plans ?? []).reduce((sum, child) => sum + walked(child), 0);
  return Math.round((each + filtered) * node['Actual Loops']) + below;
}

function show(node: PlanNode, depth = 0): string {
  const of = [node['Relation Name'], node['Index Name']].filter(Boolean).join(' by ');
  const line = `${'  '.repeat(depth)}${node['Node Type']} ${of} rows=${node['Actual Rows']} removed=${node['Rows Removed by Filter'] ?? 0} loops=${node['Actual Loops']} pages=${node['Shared Hit Blocks'] + node['Shared Read Blocks']}`;
  return [line, ...(node.Plans ?? []).map((child) => show(child, depth + 1))].join('\n');
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  return typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : `'${String(value).replaceAll("'", "''")}'`;
}
