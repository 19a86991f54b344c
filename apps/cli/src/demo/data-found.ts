import postgres from 'postgres';

/** More is not counted: a start must not wait for it. */
const MOST = 1_000_000;

/** What a database holds from before, counted up to a million. */
export interface DataFound {
  readonly runs: number;
  readonly tasks: number;
}

export async function findData(url: string): Promise<DataFound> {
  const sql = postgres(url, { max: 1, fetch_types: false, connection: { application_name: 'baton start' } });
  try {
    const [row] = await sql.unsafe(`
      select (select count(*) from (select 1 from baton.runs limit ${MOST + 1}) r) as runs,
             (select count(*) from (select 1 from baton.tasks limit ${MOST + 1}) t) as tasks`);
    return { runs: Number(row!.runs), tasks: Number(row!.tasks) };
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** `nothing from before`, or `12 runs and 40 tasks from before`. */
export function dataWords({ runs, tasks }: DataFound): string {
  if (runs === 0 && tasks === 0) return 'a new database';
  return `${count(runs, 'run')} and ${count(tasks, 'task')} from before`;
}

function count(value: number, noun: string): string {
  if (value > MOST) return `more than ${MOST} ${noun}s`;
  return value === 1 ? `1 ${noun}` : `${value} ${noun}s`;
}
