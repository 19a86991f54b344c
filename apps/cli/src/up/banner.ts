import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { postgresDataDir } from '../config.ts';
import type { Screen } from '../terminal/screen.ts';
import type { StackAddresses } from './stack.ts';

/** A command to copy, and what it does. */
export interface Try {
  readonly what: string;
  readonly command: string;
}

export interface Banner {
  readonly addresses: StackAddresses;
  readonly home: string;
  readonly logDir: string;
  /** More addresses, each with its name. */
  readonly others?: readonly (readonly [name: string, address: string])[];
  /** Above the things to try, e.g. what a run has made. */
  readonly news?: readonly (readonly [name: string, text: string])[];
  readonly tries: readonly Try[];
}

/** Every address, where the files are, and what to do next. For people: on stderr. */
export function showBanner(screen: Screen, banner: Banner): void {
  const { addresses, home, logDir, others = [], news = [] } = banner;
  const { url, workers, postgres } = addresses;
  screen.note('');
  screen.note({ text: 'Baton is up', style: 'bold' });
  const rows: (readonly [string, string])[] = [
    ['API', `${url}   gRPC, gRPC-Web, Connect and JSON on one port`],
    ['health', `${url}/readyz`],
    ['metrics', `${url}/metrics`],
    ...workers.map(({ name, url: where, pid }) => [name, `${where ?? 'no address'}   pid ${pid}`] as const),
    ...others,
    ['psql', postgres.psqlUrl],
    ['data', postgres.server === undefined ? 'in the Postgres of DATABASE_URL' : postgresDataDir(home)],
    ['logs', [`${join(logDir, '*.jsonl')}`, postgres.server?.logFile].filter((each) => each !== undefined).join(', ')],
  ];
  showRows(screen, rows);
  if (news.length > 0) {
    screen.note('');
    showRows(screen, news);
  }
  screen.note('');
  screen.note({ text: 'Try:', style: 'bold' });
  for (const { what, command } of banner.tries) {
    screen.note({ text: `  # ${what}`, style: 'dim' });
    screen.note(`  ${command}`);
  }
  screen.note('');
}

function showRows(screen: Screen, rows: readonly (readonly [string, string])[]): void {
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, text] of rows) screen.note('  ', { text: name.padEnd(width + 2), style: 'dim' }, text);
}

/** How `npx baton` reaches this home: it finds `.baton` of its directory by itself. */
export function batonCommand(home: string, url: string, words: string): string {
  return home === '.baton' ? `npx baton ${words}` : `npx baton ${words} --url ${url}`;
}

/** A look with psql; where that is not installed, with Baton. */
export function lookAtRuns(path: string | undefined, { url, postgres }: StackAddresses, home: string): Try {
  const psql = `psql "${postgres.psqlUrl}" -c 'select * from baton.v_runs'`;
  if (hasProgram(path, 'psql'))
    return { what: 'look at the runs with SQL, by a role that may only read', command: psql };
  return {
    what: `look at the runs (psql is not installed here; with it: ${psql})`,
    command: batonCommand(home, url, 'run list'),
  };
}

function hasProgram(path: string | undefined, name: string): boolean {
  return (path ?? '').split(delimiter).some((directory) => directory !== '' && existsSync(join(directory, name)));
}
