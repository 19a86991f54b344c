import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { runTool } from './generate.ts';
import { pack } from './pack.ts';
import { repositoryRoot } from './workspace.ts';

// Each compiles, packs and some install.
vi.setConfig({ testTimeout: 60_000 });

type Tree = Record<string, string>;

const json = (value: unknown): string => `${JSON.stringify(value)}\n`;

/** A workspace with one of everything that has to survive the move: two folders of one name, code, assets, a thread. */
const workspace: Tree = {
  'package.json': json({
    name: 'fixture',
    version: '1.0.0',
    engines: { node: '>=22' },
    workspaces: ['apps/*', 'packages/*'],
  }),
  LICENSE: 'the licence\n',
  'tsconfig.json': json({ extends: join(repositoryRoot, 'tsconfig.json'), compilerOptions: { types: ['node'] } }),
  'apps/tool/package.json': json({
    name: '@fixture/app',
    type: 'module',
    version: '2.3.4',
    description: 'An app',
    exports: { '.': './src/index.ts', './extra': './src/extra/extra.ts', './testing': './src/testing/fake.ts' },
    bin: { fixture: './src/bin.ts' },
    dependencies: { '@fixture/lib': '1.0.0', zebra: '1.0.0' },
    baton: { assets: ['static', 'data/*.csv'] },
  }),
  'apps/tool/README.md': '# The app\n',
  'apps/tool/static/deep/page.html': '<p>',
  'apps/tool/data/a.csv': 'a',
  'apps/tool/data/secret.key': 'no',
  'apps/tool/src/index.ts': `
    import { readFileSync } from 'node:fs';
    import { shout, type Loud } from '@fixture/lib';
    import manifest from '../package.json' with { type: 'json' };
    import { generated } from './gen/made.js';
    export type { Loud };
    export { generated };
    export const version: string = manifest.version;
    export const greet = (name: string): Loud => shout('hello ' + name);
    export const lazy = async (): Promise<number> => (await import('@fixture/lib/sub')).sub;
    export const later = async (): Promise<string> => (await import('./extra/extra.ts')).extra;
    export const where: string = import.meta.resolve('@fixture/lib/sub');
    export const thread: URL = new URL('./thread.ts', import.meta.url);
    export const page: string = readFileSync(new URL('../static/deep/page.html', import.meta.url), 'utf8');
    export const text = "import '@fixture/lib'";
  `,
  'apps/tool/src/extra/extra.ts': `import { greet } from '../index.ts';\nexport const extra: string = greet('x').text;\n`,
  'apps/tool/src/thread.ts': `import '@fixture/lib';\n`,
  'apps/tool/src/bin.ts': `#!/usr/bin/env node\nimport { greet } from './index.ts';\nconsole.log(greet('bin').text);\n`,
  'apps/tool/src/index.test.ts': `import 'vitest';\n`,
  'apps/tool/src/testing/fake.ts': `import 'vitest';\nexport const fake = 1;\n`,
  'apps/tool/src/gen/made.js': `export { sub as generated } from '@fixture/lib/sub';\n`,
  'apps/tool/src/gen/made.d.ts': `export { sub as generated } from '@fixture/lib/sub';\n`,
  'packages/tool/package.json': json({
    name: '@fixture/lib',
    type: 'module',
    version: '1.0.0',
    exports: { '.': './src/index.ts', './sub': { types: './src/sub.ts', default: './src/sub.ts' } },
    dependencies: {},
    optionalDependencies: { aardvark: '2.0.0' },
  }),
  'packages/tool/migrations/0001.sql': 'select 1;\n',
  'packages/tool/src/index.ts': `
    export interface Loud { text: string }
    export const shout = (text: string): Loud => ({ text: text.toUpperCase() });
  `,
  'packages/tool/src/sub.ts': 'export const sub = 7;\n',
  'packages/unused/package.json': json({
    name: '@fixture/unused',
    type: 'module',
    version: '1.0.0',
    exports: { '.': './src/index.ts' },
  }),
  'packages/unused/src/index.ts': 'export {};\n',
};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'baton-pack-test-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Writes the workspace with some files changed (or left out) and links its packages as npm does. */
function build(changes: Record<string, string | undefined> = {}): string {
  const root = join(directory, 'workspace');
  for (const [file, text] of Object.entries({ ...workspace, ...changes })) {
    if (text === undefined) continue;
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  mkdirSync(join(root, 'node_modules', '@fixture'), { recursive: true });
  symlinkSync(join(root, 'packages', 'tool'), join(root, 'node_modules', '@fixture', 'lib'));
  symlinkSync(join(root, 'packages', 'unused'), join(root, 'node_modules', '@fixture', 'unused'));
  symlinkSync(join(repositoryRoot, 'node_modules', '@types'), join(root, 'node_modules', '@types'));
  return root;
}

/** Packs the app and unpacks it where npm would put it; nothing is installed from a registry. */
function unpack(root: string): { project: string; installed: string; files: string[] } {
  const tarball = pack(root, '@fixture/app', join(directory, 'out'));
  expect(tarball).toBe(join(directory, 'out', 'fixture-app-2.3.4.tgz'));
  const project = join(directory, 'project');
  const installed = join(project, 'node_modules', '@fixture', 'app');
  mkdirSync(installed, { recursive: true });
  const tar = spawnSync('tar', ['xzvf', tarball, '-C', installed, '--strip-components=1'], { encoding: 'utf8' });
  expect(tar.status, tar.stderr).toBe(0);
  writeFileSync(join(project, 'package.json'), json({ name: 'project', type: 'module' }));
  const files = tar.stdout
    .trim()
    .split('\n')
    .map((file) => file.replace('package/', ''));
  return { project, installed, files: files.sort() };
}

test('the tarball has JavaScript, declarations and assets, and nothing else', () => {
  const { files } = unpack(build());
  expect(files).toEqual([
    'LICENSE',
    'README.md',
    'dist/app/data/a.csv',
    'dist/app/package.json',
    'dist/app/src/bin.d.ts',
    'dist/app/src/bin.js',
    'dist/app/src/extra/extra.d.ts',
    'dist/app/src/extra/extra.js',
    'dist/app/src/gen/made.d.ts',
    'dist/app/src/gen/made.js',
    'dist/app/src/index.d.ts',
    'dist/app/src/index.js',
    'dist/app/src/thread.d.ts',
    'dist/app/src/thread.js',
    'dist/app/static/deep/page.html',
    'dist/lib/migrations/0001.sql',
    'dist/lib/src/index.d.ts',
    'dist/lib/src/index.js',
    'dist/lib/src/sub.d.ts',
    'dist/lib/src/sub.js',
    'package.json',
  ]);
});

test('its package.json is complete: public dependencies of all that is inside, exports with types, the command', () => {
  const { installed } = unpack(build());
  expect(JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'))).toEqual({
    name: '@fixture/app',
    version: '2.3.4',
    description: 'An app',
    type: 'module',
    engines: { node: '>=22' },
    exports: {
      '.': { types: './dist/app/src/index.d.ts', default: './dist/app/src/index.js' },
      './extra': { types: './dist/app/src/extra/extra.d.ts', default: './dist/app/src/extra/extra.js' },
    },
    bin: { fixture: './dist/app/src/bin.js' },
    files: ['dist'],
    dependencies: { zebra: '1.0.0' },
    optionalDependencies: { aardvark: '2.0.0' },
  });
});

test('it runs under node_modules: every way to name a module leads to the right file', () => {
  const { project, installed } = unpack(build());
  const script = `
    import * as app from '@fixture/app';
    import { existsSync } from 'node:fs';
    console.log(JSON.stringify({
      greet: app.greet('you'), version: app.version, generated: app.generated, page: app.page, text: app.text,
      lazy: await app.lazy(), later: await app.later(), where: app.where, thread: app.thread.href,
      threadIsThere: existsSync(app.thread),
    }));
  `;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: project, encoding: 'utf8' });
  expect(run.stderr).toBe('');
  expect(JSON.parse(run.stdout)).toEqual({
    greet: { text: 'HELLO YOU' },
    version: '2.3.4',
    generated: 7,
    page: '<p>',
    text: `import '@fixture/lib'`,
    lazy: 7,
    later: 'HELLO X',
    where: `file://${installed}/dist/lib/src/sub.js`,
    thread: `file://${installed}/dist/app/src/thread.js`,
    threadIsThere: true,
  });
  const bin = spawnSync(process.execPath, [join(installed, 'dist/app/src/bin.js')], { encoding: 'utf8' });
  expect(bin.stdout).toBe('HELLO BIN\n');
  expect(readFileSync(join(installed, 'dist/app/src/bin.js'), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
});

test('its declarations hold in a project of the user, libraries checked too', () => {
  const { project } = unpack(build());
  const options = {
    strict: true,
    noEmit: true,
    module: 'nodenext',
    target: 'es2024',
    skipLibCheck: false,
    types: ['node'],
  };
  writeFileSync(join(project, 'tsconfig.json'), json({ compilerOptions: options, files: ['use.ts'] }));
  symlinkSync(join(repositoryRoot, 'node_modules', '@types'), join(project, 'node_modules', '@types'));
  writeFileSync(
    join(project, 'use.ts'),
    `import { greet, type Loud } from '@fixture/app';\nexport const loud: Loud = greet('x');\n`,
  );
  expect(runTool(repositoryRoot, 'tsc', ['-p', project])).toEqual({ code: 0, output: '' });
  writeFileSync(
    join(project, 'use.ts'),
    `import { greet } from '@fixture/app';\nexport const n: number = greet('x').text;\n`,
  );
  expect(runTool(repositoryRoot, 'tsc', ['-p', project]).output).toMatch(/use\.ts\(2,14\): error TS2322/);
});

describe('it refuses, and says why', () => {
  const packing = (changes: Record<string, string | undefined>) => () =>
    pack(build(changes), '@fixture/app', join(directory, 'out'));

  test('code that does not compile', () => {
    expect(packing({ 'packages/tool/src/sub.ts': `export const sub: number = 'x';\n` })).toThrow(/sub\.ts.*TS2322/);
  });

  test('two versions of one public package', () => {
    const manifest = workspace['packages/tool/package.json']!.replace(
      '"dependencies":{}',
      '"dependencies":{"zebra":"9.9.9"}',
    );
    expect(packing({ 'packages/tool/package.json': manifest })).toThrow(
      /zebra is 1\.0\.0 in @fixture\/app and 9\.9\.9 in @fixture\/lib/,
    );
  });

  test('a file that code names and that is not there', () => {
    expect(
      packing({ 'apps/tool/src/thread.ts': `export const u = new URL('./gone.sql', import.meta.url);\n` }),
    ).toThrow('apps/tool/src/thread.ts: ./gone.sql is not there');
  });

  test('a file that belongs to another package', () => {
    const source = `export const u = new URL('../../../packages/tool/migrations/', import.meta.url);\n`;
    expect(packing({ 'apps/tool/src/thread.ts': source })).toThrow(/leaves the package/);
  });

  test('an export without a file', () => {
    const manifest = workspace['apps/tool/package.json']!.replace('./src/extra/extra.ts', './src/extra/none.ts');
    expect(packing({ 'apps/tool/package.json': manifest })).toThrow(/exports .*none\.d\.ts, which is not there/);
  });
});
