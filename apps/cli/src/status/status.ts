import type { Baton, HealthView, InfoView, WorkerView } from '@baton/client';
import { inspectPostgres } from '@baton/postgres';
import { postgresDataDir } from '../config.ts';
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import type { CommonFlags } from '../flags.ts';
import type { Style } from '../terminal/screen.ts';
import { printTable } from '../terminal/table.ts';
import { durationText, stateCell } from '../terminal/words.ts';
import { isAlive } from '../up/process-identity.ts';
import { readUpState } from '../up/up-file.ts';

interface Status {
  readonly supervisor: {
    readonly state: 'running' | 'dead' | 'absent';
    readonly pid?: number;
    readonly startedAt?: string;
  };
  readonly postgres: { readonly state: string; readonly pid?: number; readonly port?: number };
  readonly master: MasterStatus;
  readonly workers: readonly WorkerView[];
}

type MasterStatus =
  | {
      readonly state: 'serving' | 'unhealthy';
      readonly url: string;
      readonly info: InfoView;
      readonly health: HealthView;
    }
  | { readonly state: 'unreachable'; readonly url: string; readonly reason: string };

/** `baton status`. */
export async function status(this: CliContext, flags: CommonFlags): Promise<void> {
  const baton = await this.connect(flags);
  const { url, home } = this.connection!;
  const [supervisor, postgres, master] = await Promise.all([
    supervisorStatus(home.value),
    postgresStatus(home.value),
    masterStatus(baton, url.value, this.signal),
  ]);
  const workers = master.state === 'unreachable' ? [] : await baton.workers.list({ signal: this.signal }).all();
  const found: Status = { supervisor, postgres, master, workers };
  if (flags.output === 'json') this.screen.json(found);
  else show(this, found);
  if (master.state === 'unreachable') {
    throw new CliFailure(EXIT.unreachable, `cannot reach Baton at ${master.url}: ${master.reason}`, [
      'start it: baton up',
      'find out what is wrong: baton doctor',
    ]);
  }
  if (master.state === 'unhealthy') throw new CliFailure(EXIT.failed, `the master at ${master.url} is not healthy`);
}

function supervisorStatus(home: string): Status['supervisor'] {
  const state = readUpState(home);
  if (state === undefined) return { state: 'absent' };
  return { state: isAlive(state) ? 'running' : 'dead', pid: state.pid, startedAt: state.startedAt };
}

async function postgresStatus(home: string): Promise<Status['postgres']> {
  const found = await inspectPostgres(postgresDataDir(home));
  return found.state === 'running' ? { state: found.status, pid: found.pid, port: found.port } : { state: found.state };
}

async function masterStatus(baton: Baton, url: string, signal: AbortSignal | undefined): Promise<MasterStatus> {
  try {
    const [info, health] = await Promise.all([baton.system.info({ signal }), baton.system.health({ signal })]);
    return { state: health.healthy ? 'serving' : 'unhealthy', url, info, health };
  } catch (error) {
    if (signal?.aborted) throw error;
    return { state: 'unreachable', url, reason: error instanceof Error ? error.message : String(error) };
  }
}

const MARKS: Readonly<Record<'good' | 'none' | 'bad', readonly [string, Style]>> = {
  good: ['✓', 'green'],
  none: ['–', 'dim'],
  bad: ['✗', 'red'],
};

function show(context: CliContext, { supervisor, postgres, master, workers }: Status): void {
  const { screen } = context;
  const rows: [keyof typeof MARKS, string, string][] = [
    [
      supervisor.state === 'running' ? 'good' : supervisor.state === 'dead' ? 'bad' : 'none',
      'supervisor',
      supervisor.state === 'absent' ? 'no `baton up` runs here' : `${supervisor.state}, pid ${supervisor.pid}`,
    ],
    [
      postgres.state === 'ready' ? 'good' : 'none',
      'embedded Postgres',
      postgres.pid === undefined ? postgres.state : `${postgres.state}, port ${postgres.port}, pid ${postgres.pid}`,
    ],
  ];
  if (master.state === 'unreachable') {
    rows.push(['bad', 'master', `unreachable at ${master.url}`]);
  } else {
    const uptime = durationText(new Date(0), new Date(master.info.uptimeMs ?? 0), 0);
    const about = `Baton ${master.info.version}, PostgreSQL ${master.info.postgresVersion}, up ${uptime}`;
    rows.push([master.health.healthy ? 'good' : 'bad', 'master', `${master.url}  ${about}`]);
    for (const { name, healthy, message } of master.health.parts) {
      rows.push([healthy ? 'good' : 'bad', `  ${name}`, message]);
    }
  }
  printTable(
    screen,
    ['', 'WHAT', 'STATE'],
    rows.map(([mark, what, text]) => [{ text: MARKS[mark][0], style: MARKS[mark][1] }, what, text]),
  );
  if (workers.length === 0) return;
  screen.line('');
  printTable(
    screen,
    ['WORKER', 'STATE', 'LEASES', 'SLOTS', 'ADDRESS'],
    workers.map(({ name, state, leases, slots, serviceUrl }) => [name, stateCell(state), leases, slots, serviceUrl]),
  );
}
