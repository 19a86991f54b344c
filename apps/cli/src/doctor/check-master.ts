import type { Baton, InfoView } from '@baton/client';
import { type Finding, ok, problem, wordsOf } from './finding.ts';

/** The protocol that this version speaks. Versions N and N−1 go together. */
const PROTOCOL_VERSION = 2;
/** A worker that was lost longer ago is history. */
const RECENTLY_MS = 24 * 3_600_000;

export interface MasterFindings {
  readonly findings: readonly Finding[];
  /** Undefined: it cannot be reached. */
  readonly info: InfoView | undefined;
}

/** Whether the master answers, and is healthy. */
export async function checkMaster(baton: Baton, url: string): Promise<MasterFindings> {
  let info: InfoView;
  try {
    info = await baton.system.info();
  } catch (error) {
    const fix = 'start it: baton up; if it runs elsewhere: set BATON_URL or pass --url';
    return { findings: [problem('master', `no Baton answers at ${url}: ${wordsOf(error)}`, fix)], info: undefined };
  }
  const findings = [ok('master', `${url} answers, up ${Math.round((info.uptimeMs ?? 0) / 1_000)} s`)];
  const { parts } = await baton.system.health();
  for (const { name, healthy, message } of parts) {
    if (healthy) findings.push(ok(`master ${name}`, message));
    else findings.push(problem(`master ${name}`, message, healthFix(name)));
  }
  return { findings, info };
}

function healthFix(part: string): string {
  if (part === 'postgres') return 'see whether Postgres runs (baton status) and DATABASE_URL is right';
  if (part === 'sweeps') return 'look into the master’s log, LOG_DIR/master.jsonl, and start it again';
  return 'look into the master’s log, LOG_DIR/master.jsonl';
}

/**
 * Whether client, master and workers fit together.
 * @param own this command's version
 * @param ownSchema the newest migration that this command knows
 */
export async function checkVersions(
  baton: Baton,
  info: InfoView,
  own: string,
  ownSchema: number,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  if (Math.abs(info.protocolVersion - PROTOCOL_VERSION) > 1) {
    findings.push(
      problem(
        'protocol',
        `the master speaks protocol ${info.protocolVersion}, this command ${PROTOCOL_VERSION}`,
        `install the command of the master's version: npm install @baton/cli@${info.version}`,
      ),
    );
  }
  if (info.version === own) findings.push(ok('version', `the command and the master are ${own}`));
  else {
    findings.push(
      problem(
        'version',
        `the command is ${own}, the master ${info.version}`,
        `bring both to one version: npm install @baton/cli@${newer(own, info.version)}, then start the master again`,
      ),
    );
  }
  if (info.schemaVersion === ownSchema) findings.push(ok('schema', `the database has schema ${ownSchema}`));
  else {
    const [age, fix] =
      info.schemaVersion > ownSchema
        ? ['newer', 'install the Baton that made it, or newer, before another master is started on this database']
        : ['older', 'start the master again with this version: it migrates the database'];
    findings.push(
      problem('schema', `the database has schema ${info.schemaVersion}, ${age} than ${ownSchema} of this command`, fix),
    );
  }
  for (const worker of await baton.workers.list().all()) {
    if (worker.version === info.version) continue;
    findings.push(
      problem(
        'worker version',
        `worker ${worker.name} is ${worker.version}, the master ${info.version}`,
        `baton worker drain ${worker.name}, then start it again with ${info.version}`,
      ),
    );
  }
  return findings;
}

function newer(one: string, other: string): string {
  return one.localeCompare(other, 'en', { numeric: true }) >= 0 ? one : other;
}

/** Workers that vanished, and whether there is one at all. */
export async function checkWorkers(baton: Baton): Promise<readonly Finding[]> {
  const workers = await baton.workers.list({ includeGone: true }).all();
  const lost = workers.filter(({ state, lastHeardMs = 0 }) => state === 'lost' && lastHeardMs < RECENTLY_MS);
  const there = workers.filter(({ state }) => state !== 'lost' && state !== 'stopped');
  const findings = lost.map(({ name, lastHeardMs = 0, hostname, leases }) =>
    problem(
      'workers',
      `worker ${name} on ${hostname ?? 'an unknown machine'} was last heard ${Math.round(lastHeardMs / 1_000)} s ago` +
        (leases > 0 ? ` and holds ${leases} leases` : ''),
      'see whether its process lives and reaches the master, and start it again: baton worker',
    ),
  );
  if (there.length > 0)
    findings.push(ok('workers', there.length === 1 ? '1 worker is there' : `${there.length} workers are there`));
  else findings.push(problem('workers', 'no worker is there: tasks wait', 'start one: baton worker'));
  return findings;
}
