import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Baton, createBaton } from '@baton/client';
import { loadMigrations } from '@baton/store/node';
import manifest from '../../package.json' with { type: 'json' };
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import { readUpState } from '../up/up-file.ts';
import { brokenFile, readWorkflowFile, showProblems } from '../workflow/file.ts';
import { checkAnswers } from './check-answers.ts';
import { checkClock } from './check-clock.ts';
import { checkGenerated } from './check-generated.ts';
import { checkPort, checkPostgres, checkUpFile } from './check-home.ts';
import { checkDisk, checkNode } from './check-machine.ts';
import { checkMaster, checkVersions, checkWorkers } from './check-master.ts';
import { checkMessages } from './check-messages.ts';
import { checkPackages } from './check-packages.ts';
import { checkServices, servicesOf, storedServices } from './check-services.ts';
import { checkSnapshots } from './check-snapshots.ts';
import type { DoctorFlags } from './doctor-flags.ts';
import { type Finding, skipped, wordsOf } from './finding.ts';
import { repositoryAround } from './repository.ts';

const PROBE_MS = 2_000;

/** `baton doctor`. */
export async function doctor(this: CliContext, flags: DoctorFlags): Promise<void> {
  const baton = await this.connect(flags);
  const url = this.connection!.url.value;
  const definition = flags.file === undefined ? undefined : await definitionIn(this, flags.file);
  const findings = flags.contract
    ? await contractFindings(baton, url)
    : await allFindings(this, baton, url, definition);
  if (flags.output === 'json') this.screen.json(findings);
  else show(this, findings);
  const problems = findings.filter(({ level }) => level === 'problem').length;
  if (problems > 0) throw new CliFailure(EXIT.failed, problems === 1 ? '1 problem' : `${problems} problems`);
}

async function allFindings(
  context: CliContext,
  baton: Baton,
  url: string,
  definition: unknown,
): Promise<readonly Finding[]> {
  const { config, now } = context;
  const home = config.home.value;
  const findings: Finding[] = [
    checkNode(process.versions.node),
    await checkDisk(home),
    await checkPort(config.port.value, versionAt),
    checkUpFile(home),
    ...(config.databaseUrl.value === '' ? [await checkPostgres(home)] : []),
    await checkGenerated(repository()),
  ];
  const { findings: ofMaster, info } = await checkMaster(baton, url);
  findings.push(...ofMaster);
  const databaseUrl = config.databaseUrl.value || readUpState(home)?.postgres?.psqlUrl || '';
  findings.push(await checkClock(databaseUrl, now), await checkSnapshots(databaseUrl));
  if (info !== undefined) {
    const schema = Math.max(...loadMigrations().map(({ version }) => version));
    findings.push(...(await checkVersions(baton, info, manifest.version, schema)), ...(await checkWorkers(baton)));
  }
  if (definition !== undefined) findings.push(...(await checkServices(servicesOf([definition]))));
  else if (info !== undefined) findings.push(...(await checkServices(await storedServices(baton))));
  return findings;
}

async function contractFindings(baton: Baton, url: string): Promise<readonly Finding[]> {
  const root = repository();
  const own = dirname(fileURLToPath(new URL('../../package.json', import.meta.url)));
  const findings = [await checkGenerated(root), ...checkPackages(root, own), ...checkMessages()];
  try {
    await baton.system.info();
  } catch (error) {
    return [...findings, skipped('services', `no master at ${url} (${wordsOf(error)}): baton up starts one`)];
  }
  return [...findings, ...(await checkAnswers(url))];
}

function repository(): string | undefined {
  return repositoryAround(import.meta.dirname);
}

async function versionAt(url: string): Promise<string | undefined> {
  const baton = createBaton({ url, timeoutMs: PROBE_MS, retry: { attempts: 1 } });
  return baton.system.info().then(
    ({ version }) => version,
    () => undefined,
  );
}

async function definitionIn({ screen }: CliContext, path: string): Promise<unknown> {
  const file = await readWorkflowFile(resolve(path));
  if (file.ok) return file.source;
  showProblems(file.problems, (text, style) => screen.note({ text, style }));
  throw brokenFile(path, file.problems);
}

const MARKS = {
  ok: { text: '✓', style: 'green' },
  problem: { text: '✗', style: 'red' },
  skipped: { text: '–', style: 'dim' },
} as const;

function show({ screen }: CliContext, findings: readonly Finding[]): void {
  const width = Math.max(...findings.map(({ check }) => check.length));
  for (const { check, level, message, fix } of findings) {
    screen.line(MARKS[level], ` ${check.padEnd(width)}  ${message}`);
    if (fix !== undefined) screen.line(' '.repeat(width + 4), { text: `fix: ${fix}`, style: 'bold' });
  }
}
