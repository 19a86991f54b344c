import { join } from 'node:path';
import { inspectPostgres } from '@baton/postgres';
import { postgresDataDir } from '../config.ts';
import { isPortFree, portOwner } from '../up/port-owner.ts';
import { isAlive } from '../up/process-identity.ts';
import { readUpState, upFileOf } from '../up/up-file.ts';
import { type Finding, ok, problem, skipped } from './finding.ts';

/** @param batonAt the version of the Baton that answers at a URL; undefined: none does */
export async function checkPort(port: number, batonAt: (url: string) => Promise<string | undefined>): Promise<Finding> {
  if (port === 0) return skipped('port', 'BATON_PORT is 0: any free one will do');
  if (await isPortFree(port)) return ok('port', `port ${port} is free`);
  const version = await batonAt(`http://127.0.0.1:${port}`);
  if (version !== undefined) return ok('port', `Baton ${version} serves on port ${port}`);
  const owner = portOwner(port);
  const by = owner === undefined ? 'another process' : `pid ${owner.pid}: ${owner.command}`;
  return problem('port', `port ${port} is taken by ${by}`, `end that process, or choose any free port: BATON_PORT=0`);
}

/** The file of `baton up`. */
export function checkUpFile(home: string): Finding {
  const state = readUpState(home);
  if (state === undefined) return ok('up.json', `no \`baton up\` runs in ${home}`);
  if (isAlive(state)) return ok('up.json', `\`baton up\` runs as pid ${state.pid}`);
  return problem(
    'up.json',
    `${upFileOf(home)} was left by a \`baton up\` that died (pid ${state.pid})`,
    'baton stop (ends what it left behind), or baton up (takes over)',
  );
}

/** The embedded Postgres's directory. */
export async function checkPostgres(home: string): Promise<Finding> {
  const dataDir = postgresDataDir(home);
  const found = await inspectPostgres(dataDir);
  switch (found.state) {
    case 'absent':
      return ok('postgres', `no data in ${dataDir} yet`);
    case 'stopped':
      return ok('postgres', `PostgreSQL ${found.major} in ${dataDir} is stopped`);
    case 'stale_pid_file': {
      const file = join(found.dataDir, 'postmaster.pid');
      const whose = found.cause === 'dead' ? `pid ${found.pid} is dead` : `pid ${found.pid} is ${found.program}`;
      return problem(
        'postgres',
        `${file} is stale: ${whose}`,
        `baton up (removes it by itself), or for a server of your own: rm ${file}`,
      );
    }
    case 'running': {
      const words = `PostgreSQL ${found.major} is ${found.status} on port ${found.port} (pid ${found.pid})`;
      const state = readUpState(home);
      // A master alone has one, too; only a supervisor that died leaves it behind unasked.
      if (state === undefined || isAlive(state)) return ok('postgres', words);
      return problem('postgres', `${words}, and nobody looks after it`, 'baton stop, or baton up to go on with it');
    }
  }
}
