import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { checkWorkflowFile } from '@baton/client/workflow-file';
import { readConfig as readMasterConfig } from '@baton/master';
import { beforeAll, describe, expect, test } from 'vitest';
import { CLI_REFERENCE, cliCommands, renderCliReference } from './cli-reference.ts';
import { LAYERS, TEST_FILE } from './house-rules.ts';
import { readWorkspace, repositoryRoot } from './workspace.ts';

const read = (file: string): string => readFileSync(join(repositoryRoot, file), 'utf8');
const find = (...patterns: string[]): string[] =>
  globSync(patterns, { cwd: repositoryRoot, exclude: (name) => /(^|\/)(node_modules|dist|\.\w+)$/.test(String(name)) })
    .map((file) => file.replaceAll('\\', '/'))
    .sort();

const pages = find('*.md', '{docs,packages,apps,examples,deploy,test,tools}/**/*.md');
const sources = find('{packages,apps}/*/src/**/*.ts').filter(
  (file) => !TEST_FILE.test(file) && !file.includes('/gen/') && !file.endsWith('.d.ts'),
);
const sourceText = sources.map(read).join('\n');

/** Text without its code blocks. */
const proseOf = (text: string): string => text.replaceAll(/^```.*?^```/gms, '');

/** What stands in the first column of a page's tables, between backticks. */
function firstColumn(page: string): string[] {
  const rows = proseOf(page).matchAll(/^\| *`([^`|]+)`/gm);
  return [...rows].map((row) => row[1]!);
}

/** The part of a page below a heading of the second level. */
function section(page: string, title: string): string {
  const [, rest] = page.split(`\n## ${title}\n`);
  expect(rest, `the heading "${title}"`).toBeDefined();
  return rest!.split('\n## ')[0]!;
}

const sorted = (names: Iterable<string>): string[] => [...new Set(names)].sort();
const allMatches = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map((found) => found[1]!);

test('there are pages and sources to check', () => {
  expect(pages).toContain('README.md');
  expect(pages).toContain('docs/guide/tasks.md');
  expect(sources.length).toBeGreaterThan(100);
});

describe('links', () => {
  const slugOf = (heading: string): string =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-');
  const anchorsOf = (file: string): string[] => allMatches(proseOf(read(file)), /^#+ (.+)$/gm).map(slugOf);

  test.each(pages)('every relative link of %s leads somewhere', (page) => {
    const broken: string[] = [];
    for (const link of allMatches(proseOf(read(page)), /\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? page : posix.join(dirname(page), path);
      const there = existsSync(join(repositoryRoot, target));
      if (!there || (anchor !== undefined && !anchorsOf(target).includes(anchor))) broken.push(link);
    }
    expect(broken).toEqual([]);
  });
});

describe('commands', () => {
  const workspace = readWorkspace(repositoryRoot);
  const scripts = (directory: string): string[] =>
    Object.keys((JSON.parse(read(posix.join(directory, 'package.json'))) as { scripts?: object }).scripts ?? {});
  const code = pages
    .filter((page) => page !== CLI_REFERENCE)
    .flatMap((page) => {
      const text = read(page);
      const blocks = [...text.matchAll(/^```(\w*)\n(.*?)^```/gms)].filter((block) => ['', 'sh'].includes(block[1]!));
      return [...blocks.flatMap((block) => block[2]!.split('\n')), ...allMatches(proseOf(text), /`([^`\n]+)`/g)].map(
        (line) => ({ page, line }),
      );
    });
  let commands: string[];
  let reference: string;

  beforeAll(async () => {
    commands = await cliCommands();
    reference = await renderCliReference();
  });

  test('every npm script that a page names exists', () => {
    const wrong: string[] = [];
    let seen = 0;
    for (const { page, line } of code) {
      for (const [, script, , member] of line.matchAll(/\bnpm run (?:--silent )?([a-z:-]+)( -w (\S+))?/g)) {
        seen++;
        const directory = member === undefined ? '.' : workspace.byName.get(member)?.directory;
        if (directory === undefined || !scripts(directory).includes(script!)) {
          // A page beside a package.json may mean that one.
          if (!existsSync(join(repositoryRoot, dirname(page), 'package.json'))) wrong.push(`${page}: ${line}`);
          else if (!scripts(dirname(page)).includes(script!)) wrong.push(`${page}: ${line}`);
        }
      }
    }
    expect(seen).toBeGreaterThan(5);
    expect(wrong).toEqual([]);
  });

  test('every baton command that a page names exists, with its flags', () => {
    const wrong: string[] = [];
    let seen = 0;
    for (const { page, line } of code) {
      for (const [, typed] of line.matchAll(/(?:^|npx |\s)baton ((?:[a-z-]+ ?)+[^|;&#]*)/g)) {
        const words = typed!.trim().split(/\s+/);
        const [first = '', second = ''] = words;
        const hasParts = commands.some((command) => command.startsWith(`${first} `));
        const name = hasParts && /^[a-z]/.test(second) ? `${first} ${second}` : first;
        seen++;
        const title = name === '--help' ? 'baton' : `baton ${name}`;
        const help = reference.split(`\n## ${title}\n`)[1]?.split('\n## ')[0];
        if (help === undefined) {
          wrong.push(`${page}: baton ${typed}`);
          continue;
        }
        for (const flag of words.filter((word) => /^--[a-z]/.test(word))) {
          if (!help.includes(`[${flag}]`) && !help.includes(` ${flag} `)) wrong.push(`${page}: ${name} has no ${flag}`);
        }
      }
    }
    expect(seen).toBeGreaterThan(30);
    expect(wrong).toEqual([]);
  });

  test('every program of the repository that a page starts exists', () => {
    const wrong = code.flatMap(({ page, line }) =>
      allMatches(line, /\bnode ((?:tools|apps|examples|test|src)\/\S+\.ts)/g)
        .filter(
          (file) => !existsSync(join(repositoryRoot, file)) && !existsSync(join(repositoryRoot, dirname(page), file)),
        )
        .map((file) => `${page}: ${file}`),
    );
    expect(wrong).toEqual([]);
  });

  test('the reference of the command line is fresh', () => {
    expect(read(CLI_REFERENCE), 'fix: node tools/cli-reference.ts').toBe(reference);
  });
});

describe('errors', () => {
  const page = read('docs/reference/errors.md');
  const refusals = [...sourceText.matchAll(/new Refusal\(\s*'([a-z_]+)',\s*'([A-Z_]+)'/g)];
  const found = allMatches(sourceText, /\bnotFound\('(\w+)'/g).map((what) => `${what.toUpperCase()}_NOT_FOUND`);

  test('every refusal of the code is documented, with its code', () => {
    expect(refusals.length).toBeGreaterThan(15);
    const rows = section(page, 'Reasons of masters');
    const documented = [...rows.matchAll(/^\| `([A-Z_]+)` *\| `([a-z_]+)`/gm)].map((row) => `${row[1]} ${row[2]}`);
    const inCode = [...refusals.map(([, code, reason]) => `${reason} ${code}`), ...found.map((r) => `${r} not_found`)];
    expect(sorted(documented)).toEqual(sorted(inCode));
  });

  test('no refusal hides its reason in a variable', () => {
    // One is made of what was not found; its callers are looked at instead.
    expect(sourceText.match(/new Refusal\(/g)).toHaveLength(refusals.length + 1);
  });

  test('every other reason of the code is documented', () => {
    const lines = sourceText.split('\n').filter((line) => /\breason\??:/.test(line));
    const reasons = lines.flatMap((line) => allMatches(line, /'([A-Z]+(?:_[A-Z]+)+)'/g));
    expect(sorted(reasons).length).toBeGreaterThan(5);
    expect(sorted(reasons).filter((reason) => !page.includes(`| \`${reason}\``))).toEqual([]);
  });

  test.each([
    ['Reasons of the embedded Postgres', 'packages/postgres/src/errors.ts', 'EmbeddedPostgresReason'],
    ['Problems of workflow files', 'packages/domain/src/definition/problem.ts', 'ProblemCode'],
  ])('%s are those of the type', (title, file, type) => {
    const union = read(file).split(`type ${type} =`)[1]!.split(';')[0]!;
    expect(sorted(firstColumn(section(page, title)))).toEqual(sorted(allMatches(union, /'([A-Z_]+)'/g)));
  });

  test('every documented reason is in the code', () => {
    const missing = firstColumn(page).filter(
      (reason) => !sourceText.includes(`'${reason}'`) && !found.includes(reason),
    );
    expect(missing).toEqual([]);
  });
});

describe('configuration', () => {
  const page = read('docs/reference/configuration.md');
  const variablesIn = (file: string): string[] =>
    [...read(file).matchAll(/\benv\.([A-Z][A-Z_]+)|'((?:BATON|LOG|DATABASE|ENERGY)_[A-Z_]+)'/g)].map(
      (m) => m[1] ?? m[2]!,
    );

  test.each([
    ['Master', 'apps/master/src/config.ts', []],
    ['Worker', 'apps/worker/src/config.ts', []],
    ['Command line', 'apps/cli/src/config.ts', ['NO_COLOR']],
    ['Edge', 'apps/edge/src/config.ts', []],
    ['Test kit', 'apps/cli/src/kit/config.ts', []],
    ['Energy services', 'examples/energy-pipeline/src/service/options.ts', []],
  ])('%s: the variables are those that the code reads', (title, file, others) => {
    const variables = [...variablesIn(file), ...others];
    expect(variables.length).toBeGreaterThan(0);
    expect(sorted(firstColumn(section(page, title)))).toEqual(sorted(variables));
  });

  test('the defaults of a master are the documented ones', () => {
    const rows = section(page, 'Master');
    const documented = (variable: string) => {
      const cell = new RegExp(`\`${variable}\` *\\| *([^|,]+)`).exec(rows)?.[1]?.trim();
      return cell?.replaceAll(/[ `]/g, '');
    };
    const { host, port, home, logDir, logLevel, settings } = readMasterConfig({});
    expect({
      BATON_HOST: documented('BATON_HOST'),
      BATON_PORT: documented('BATON_PORT'),
      BATON_HOME: documented('BATON_HOME'),
      LOG_DIR: documented('LOG_DIR'),
      BATON_LOG_LEVEL: documented('BATON_LOG_LEVEL'),
      BATON_LEASE_TTL_MS: documented('BATON_LEASE_TTL_MS'),
      BATON_HEARTBEAT_MS: documented('BATON_HEARTBEAT_MS'),
      BATON_LONG_POLL_MS: documented('BATON_LONG_POLL_MS'),
      BATON_DRAIN_GRACE_MS: documented('BATON_DRAIN_GRACE_MS'),
      BATON_SWEEP_MS: documented('BATON_SWEEP_MS'),
    }).toEqual({
      BATON_HOST: host,
      BATON_PORT: String(port),
      BATON_HOME: home,
      LOG_DIR: logDir,
      BATON_LOG_LEVEL: logLevel,
      BATON_LEASE_TTL_MS: String(settings.leaseTtlMs),
      BATON_HEARTBEAT_MS: String(settings.heartbeatIntervalMs),
      BATON_LONG_POLL_MS: String(settings.longPollMs),
      BATON_DRAIN_GRACE_MS: String(settings.drainGraceMs),
      BATON_SWEEP_MS: String(settings.sweepIntervalMs),
    });
  });
});

test('the documented metrics are those of the code', () => {
  const files = [
    'packages/engine/src/metrics.ts',
    'packages/api/src/services/system-service.ts',
    'packages/api/src/messages/worker-metrics.ts',
    'apps/master/src/start.ts',
  ];
  const names = files.flatMap((file) => allMatches(read(file), /^\s*(?:name: ')?(baton_[a-z0-9_]+)'?[:,]/gm));
  expect(sorted(firstColumn(read('docs/reference/metrics.md')))).toEqual(sorted(names));
});

test('the documented tables and views are those of the migrations', () => {
  const page = read('docs/reference/database.md');
  const sql = find('packages/store/migrations/*.sql').map(read).join('\n');
  const tables = allMatches(sql, /^create table baton\.(\w+)/gm);
  const views = allMatches(sql, /^create view baton\.(\w+)/gm);
  expect(sorted(firstColumn(page))).toEqual(sorted(tables));
  expect(sorted(allMatches(section(page, 'Views, for people'), /`(v_\w+)`/g))).toEqual(sorted(views));
});

test('the services and methods of the contract are named', () => {
  const rows = section(read('docs/reference/contract.md'), 'Services');
  const wrong: string[] = [];
  let seen = 0;
  for (const file of find('proto/baton/v1/*.proto')) {
    for (const [, service, body] of read(file).matchAll(/^service (\w+) \{(.*?)^\}/gms)) {
      const row = rows.split('\n').find((line) => line.startsWith(`| \`${service}\``)) ?? '';
      for (const method of allMatches(body!, /^ {2}rpc (\w+)\(/gm)) {
        seen++;
        if (!new RegExp(`\\b${method}\\b`).test(row)) wrong.push(`${service}/${method}`);
      }
    }
  }
  expect(seen).toBeGreaterThan(25);
  expect(wrong).toEqual([]);
});

test('the map of the house says what the rules say', () => {
  const rows = [
    ...read('docs/reference/house.md').matchAll(
      /^\| \[(?:packages|apps)\/[^\]]+\]\(\.\.\/\.\.\/([^)]+)\/README\.md\).*\| *([^|]+?) *\|$/gm,
    ),
  ];
  expect(rows.length).toBeGreaterThan(15);
  const packages = readWorkspace(repositoryRoot).packages;
  for (const [, directory, may] of rows) {
    const member = packages.find((each) => each.directory === directory);
    const layer = LAYERS[member!.name.replace('@baton/', '')]!;
    if (layer.may.includes('*')) expect(may).toMatch(/^any package/);
    else expect(may === 'nothing' ? [] : sorted(may!.split(', ')), directory).toEqual(sorted(layer.may));
  }
});

test('every package and app has a page that says what may be imported', () => {
  for (const { name, directory, kind } of readWorkspace(repositoryRoot).packages) {
    if (kind !== 'packages' && kind !== 'apps') continue;
    expect(existsSync(join(repositoryRoot, directory, 'README.md')), directory).toBe(true);
    const may = /\*\*May import:\*\* ([^.;]+)/.exec(read(`${directory}/README.md`))?.[1];
    expect(may, directory).toBeDefined();
    const layer = LAYERS[name.replace('@baton/', '')]!;
    if (layer.may.includes('*')) expect(may, directory).toMatch(/^any package/);
    else
      expect(may === 'nothing' ? [] : sorted(may!.replaceAll(/\s+/g, ' ').split(', ')), directory).toEqual(
        sorted(layer.may),
      );
  }
});

test('every workflow that the guide shows is sound', () => {
  const blocks = [...read('docs/guide/workflows.md').matchAll(/^```(yaml|json)\n(.*?)^```/gms)];
  expect(blocks.length).toBeGreaterThanOrEqual(2);
  for (const [, language, text] of blocks) {
    expect(checkWorkflowFile(text!, { format: language as 'json' | 'yaml' })).toMatchObject({ ok: true });
  }
});
