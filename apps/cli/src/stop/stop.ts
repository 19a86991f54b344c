import { inspectPostgres, stopPostgres } from '@baton/postgres';
import { postgresDataDir } from '../config.ts';
import type { CliContext } from '../context.ts';
import { databaseFailure } from '../db/embedded.ts';
import { stopOrphans, waitUntilGone } from '../up/orphans.ts';
import { isAlive, type ProcessIdentity, signalProcess } from '../up/process-identity.ts';
import { readUpState, removeUpFile, type UpState } from '../up/up-file.ts';
import type { StopFlags } from './stop-flags.ts';

/** After a SIGKILL, what is left is ended with this grace each. */
const REST_MS = 10_000;

/** What was there, and how it ended. */
interface Stopped {
  readonly supervisor: 'not running' | 'stopped' | 'killed';
  /** Children of a supervisor that was dead, or killed. */
  readonly orphans: number;
  /** An embedded Postgres that nobody looked after any more. */
  readonly postgres: boolean;
}

/** `baton stop`. */
export async function stop(this: CliContext, flags: StopFlags): Promise<void> {
  const home = this.config.home.value;
  const stopped = await stopHome(home, flags.grace).catch((thrown: unknown) => {
    throw databaseFailure(thrown);
  });
  this.record({ ...stopped });
  if (flags.output === 'json') {
    this.screen.json(stopped);
    return;
  }
  this.screen.line(wordsFor(stopped, home));
}

async function stopHome(home: string, graceMs: number): Promise<Stopped> {
  const state = readUpState(home);
  let supervisor: Stopped['supervisor'] = 'not running';
  if (state !== undefined && isAlive(state)) supervisor = await stopSupervisor(state, graceMs);
  const orphans = state === undefined ? 0 : await stopOrphans(state, REST_MS);
  const dataDir = postgresDataDir(home);
  const postgres = (await inspectPostgres(dataDir)).state === 'running' && (await stopPostgres(dataDir));
  if (state !== undefined) removeUpFile(home, state);
  return { supervisor, orphans, postgres };
}

async function stopSupervisor(state: UpState & ProcessIdentity, graceMs: number): Promise<'stopped' | 'killed'> {
  signalProcess(state, 'SIGTERM');
  if (await waitUntilGone([state], graceMs)) return 'stopped';
  signalProcess(state, 'SIGKILL');
  await waitUntilGone([state], REST_MS);
  return 'killed';
}

function wordsFor({ supervisor, orphans, postgres }: Stopped, home: string): string {
  const left = [
    ...(orphans > 0 ? [orphans === 1 ? '1 process' : `${orphans} processes`] : []),
    ...(postgres ? ['PostgreSQL'] : []),
  ].join(' and ');
  if (supervisor === 'stopped') return `Baton in ${home} is stopped`;
  if (supervisor === 'killed') return `Baton in ${home} did not end in time and was killed`;
  return left === '' ? `nothing runs in ${home}` : `${left} of a Baton that died in ${home}: stopped`;
}
