import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { inspectHouse } from './house.ts';
import { findCycles } from './house-cycles.ts';

type Tree = Record<string, string>;

const trees: string[] = [];
afterEach(() => {
  for (const tree of trees.splice(0)) rmSync(tree, { recursive: true, force: true });
});

/** A small house in which every rule holds: a line for each member, in the form that the real one has. */
const sound: Tree = {
  'package.json': JSON.stringify({
    name: 'house',
    version: '1.0.0',
    workspaces: ['apps/*', 'packages/*', 'examples/*'],
    devDependencies: { vitest: '1' },
  }),
  ...member('packages/domain', '@baton/domain', {}),
  'packages/domain/src/index.ts': `export { retry } from './retry.ts';\n`,
  'packages/domain/src/retry.ts': 'export const retry = 1;\n',
  'packages/domain/src/retry.test.ts': `import { test } from 'vitest';\nimport '@baton/testkit';\ntest('x', () => {});\n`,
  ...member('packages/store', '@baton/store', { '@baton/domain': '1', postgres: '3' }, { './node': './src/node.ts' }),
  'packages/store/src/index.ts': `import postgres from 'postgres';\nexport * from '@baton/domain';\nexport { postgres };\n`,
  'packages/store/src/node.ts': `import { readFileSync } from 'node:fs';\nexport { readFileSync };\n`,
  ...member('packages/engine', '@baton/engine', { '@baton/domain': '1', '@baton/store': '1' }),
  'packages/engine/src/index.ts': `export * from '@baton/store';\n`,
  ...member('packages/server', '@baton/server', {}),
  'packages/server/src/index.ts': `export { createServer } from 'node:http';\n`,
  ...member('packages/testkit', '@baton/testkit', { '@baton/store': '1' }),
  'packages/testkit/src/index.ts': `export const url = process.env.TEST_URL;\n`,
  ...member('apps/master', '@baton/master', { '@baton/engine': '1', '@baton/store': '1' }),
  'apps/master/src/index.ts': `export * from './config.ts';\nexport * from '@baton/engine';\nimport '@baton/store/node';\n`,
  'apps/master/src/config.ts': `export const port = process.env.BATON_PORT;\n`,
  ...member('apps/worker', '@baton/worker', {}),
  'apps/worker/src/index.ts': 'export {};\n',
  ...member('apps/cli', '@baton/cli', { '@baton/master': '1' }),
  'apps/cli/src/index.ts': `import '@baton/master';\n`,
  'test/e2e/run.test.ts': `import '@baton/testkit';\nimport '@baton/master';\nimport 'vitest';\n`,
};

function member(directory: string, name: string, dependencies: Record<string, string>, more: Tree = {}): Tree {
  const exports = { '.': './src/index.ts', ...more };
  const manifest = { name, version: '1.0.0', exports, dependencies };
  return { [`${directory}/package.json`]: JSON.stringify(manifest, null, 2) };
}

function inspect(changes: Tree): string[] {
  const root = mkdtempSync(join(tmpdir(), 'baton-house-'));
  trees.push(root);
  for (const [file, text] of Object.entries({ ...sound, ...changes })) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  return inspectHouse(root).violations.map(({ file, line, rule }) => `${file}:${line} ${rule}`);
}

test('a sound house has no violations', () => {
  expect(inspect({})).toEqual([]);
});

describe('direction', () => {
  test('domain imports nothing', () => {
    const changes = {
      ...member('packages/domain', '@baton/domain', { '@baton/server': '1' }),
      'packages/domain/src/retry.ts': `// why\nimport type { X } from '@baton/server';\nexport type Y = X;\n`,
    };
    expect(inspect(changes)).toEqual([
      'packages/domain/package.json:8 direction',
      'packages/domain/src/retry.ts:2 direction',
    ]);
  });

  test('a package does not import an app, not even in its tests', () => {
    expect(inspect({ 'packages/engine/src/a.test.ts': `import '@baton/master';\n` })).toContain(
      'packages/engine/src/a.test.ts:1 direction',
    );
  });

  test('an app does not import another app, and the worker does not import the store', () => {
    const changes = {
      ...member('apps/worker', '@baton/worker', { '@baton/master': '1', '@baton/store': '1' }),
      'apps/worker/src/index.ts': `await import('@baton/master');\nexport * from '@baton/store';\n`,
    };
    expect(inspect(changes).filter((line) => line.startsWith('apps/worker/src'))).toEqual([
      'apps/worker/src/index.ts:1 direction',
      'apps/worker/src/index.ts:2 direction',
    ]);
  });

  test('a package that the table does not name', () => {
    const changes = { ...member('packages/news', '@baton/news', {}), 'packages/news/src/index.ts': 'export {};\n' };
    expect(inspect(changes)).toEqual(['packages/news/package.json:2 direction']);
  });
});

describe('cycle', () => {
  test('between two files of a package, types included', () => {
    const changes = { 'packages/domain/src/retry.ts': `import type {} from './index.ts';\nexport const retry = 1;\n` };
    expect(inspect(changes)).toEqual(['packages/domain/src/index.ts:1 cycle']);
  });

  test('between packages, when no file is in a cycle', () => {
    const changes = {
      ...member('packages/domain', '@baton/domain', { '@baton/store': '1' }),
      'packages/domain/src/backoff.ts': `import '@baton/store/node';\n`,
    };
    expect(inspect(changes)).toContain('packages/domain/src/backoff.ts:1 cycle');
  });

  test('a package that imports itself by name', () => {
    expect(inspect({ 'packages/domain/src/a.ts': `import '@baton/domain';\n` })).toContain(
      'packages/domain/src/a.ts:1 cycle',
    );
  });

  test('the shortest one is shown', () => {
    const pairs = ['a b', 'b c', 'c d', 'd a', 'c a', 'x y', 'z z'];
    const edges = pairs.map((pair, i) => ({ from: pair[0]!, to: pair[2]!, line: i }));
    const found = findCycles(edges).map((cycle) => cycle.map(({ from, to }) => `${from}${to}`).join(' '));
    expect(found).toEqual(['ab bc ca', 'zz']);
  });
});

describe('edge', () => {
  test.each([
    ['a module of Node', `import 'node:fs';\n`],
    ['a module of Node without its prefix', `import { join } from 'path';\nexport { join };\n`],
    ['one that is imported later', `export const f = () => import('node:fs');\n`],
    [
      'a name of which only a type is used, which type stripping leaves as an import',
      `import { type Stats } from 'fs';\n`,
    ],
    ['a global of Node', `export const b = Buffer.from('x');\n`],
    ['the process', `export const pid = process.pid;\n`],
  ])('%s', (_, source) => {
    expect(inspect({ 'packages/domain/src/retry.ts': source })).toEqual(['packages/domain/src/retry.ts:1 edge']);
  });

  test('an npm package that is not known to run without Node', () => {
    const changes = {
      ...member('packages/engine', '@baton/engine', { '@baton/domain': '1', '@baton/store': '1', pino: '1' }),
      'packages/engine/src/log.ts': `import pino from 'pino';\nexport { pino };\n`,
      'packages/engine/src/index.ts': `export * from '@baton/store';\nexport * from './log.ts';\n`,
    };
    expect(inspect(changes)).toEqual(['packages/engine/src/log.ts:1 edge']);
  });

  test('what is reached through another package is reported where it stands', () => {
    const changes = { 'packages/engine/src/index.ts': `export * from '@baton/store/node';\n` };
    expect(inspect(changes)).toEqual(['packages/store/src/node.ts:1 edge']);
  });

  test('types of Node, a local called process, and sub-paths named for Node are no violations', () => {
    const changes = {
      'packages/domain/src/retry.ts': `import type { Stats } from 'node:fs';\nexport const f = (process: { pid: Stats }) => process.pid;\n`,
    };
    expect(inspect(changes)).toEqual([]);
  });
});

describe('declared', () => {
  test('an npm package that package.json does not name', () => {
    expect(inspect({ 'packages/server/src/a.ts': `import 'left-pad/deep';\n` })).toEqual([
      'packages/server/src/a.ts:1 declared',
    ]);
  });

  test('a package of the house that package.json does not name', () => {
    expect(inspect({ 'apps/master/src/a.ts': `import '@baton/server';\n` })).toEqual([
      'apps/master/src/a.ts:1 declared',
    ]);
  });

  test('a test may use what the repository has for all, code may not', () => {
    const source = `import 'vitest';\n`;
    expect(inspect({ 'packages/server/src/a.ts': source, 'packages/server/src/b.test.ts': source })).toEqual([
      'packages/server/src/a.ts:1 declared',
    ]);
  });
});

test('testkit: nothing that ships imports it or depends on it', () => {
  const changes = {
    ...member('packages/server', '@baton/server', { '@baton/testkit': '1' }),
    'packages/server/src/a.ts': `import '@baton/testkit';\n`,
  };
  expect(inspect(changes)).toEqual(['packages/server/package.json:8 testkit', 'packages/server/src/a.ts:1 testkit']);
});

test('testkit: nothing that ships imports a file that is there for tests', () => {
  const changes = {
    'packages/server/src/probe.fixture.ts': `import '@baton/testkit';\n`,
    'packages/server/src/a.ts': `import './probe.fixture.ts';\n`,
    'packages/server/src/a.test.ts': `import './probe.fixture.ts';\n`,
  };
  expect(inspect(changes)).toEqual(['packages/server/src/a.ts:1 testkit']);
});

describe('exports', () => {
  test('a sub-path that is not exported', () => {
    expect(inspect({ 'apps/master/src/a.ts': `import '@baton/store/src/node.ts';\n` })).toEqual([
      'apps/master/src/a.ts:1 exports',
    ]);
  });

  test('a relative path into another package, also from a test', () => {
    const changes = {
      'apps/master/src/a.ts': `import '../../../packages/store/src/node.ts';\n`,
      'test/e2e/b.test.ts': `const url = new URL('../../packages/store/src/node.ts', import.meta.url);\n`,
    };
    expect(inspect(changes)).toEqual(['apps/master/src/a.ts:1 exports', 'test/e2e/b.test.ts:1 exports']);
  });

  test('a test may point at a file of the repository', () => {
    const source = `export const url = new URL('../../../package.json', import.meta.url);\n`;
    expect(inspect({ 'packages/server/src/a.ts': source, 'packages/server/src/a.test.ts': source })).toEqual([
      'packages/server/src/a.ts:1 exports',
    ]);
  });

  test('a file of the repository', () => {
    const changes = { 'tools/x.ts': 'export {};\n', 'apps/master/src/a.ts': `import '../../../tools/x.ts';\n` };
    expect(inspect(changes)).toEqual(['apps/master/src/a.ts:1 exports']);
  });
});

describe('environment', () => {
  test.each(['process.env.X', 'process?.env', 'globalThis.process.env', `process['env']`, 'Deno.env.get("X")'])(
    'a package that reads %s',
    (expression) => {
      expect(inspect({ 'packages/server/src/a.ts': `export const x = ${expression};\n` })).toContain(
        'packages/server/src/a.ts:1 environment',
      );
    },
  );

  test('by destructuring or by import', () => {
    const changes = {
      'packages/server/src/a.ts': 'const { env } = process;\nexport { env };\n',
      'packages/server/src/b.ts': `import { env } from 'node:process';\nexport { env };\n`,
    };
    expect(inspect(changes)).toEqual([
      'packages/server/src/a.ts:1 environment',
      'packages/server/src/b.ts:1 environment',
    ]);
  });

  test('an app reads it in its configuration only', () => {
    expect(inspect({ 'apps/master/src/a.ts': 'export const x = process.env.X;\n' })).toEqual([
      'apps/master/src/a.ts:1 environment',
    ]);
  });
});

test('name: folders and files that say nothing', () => {
  const changes = {
    'packages/domain/src/helpers/a.ts': '',
    'apps/cli/src/string-utils/b.ts': '',
    'tools/utils.ts': '',
  };
  expect(inspect(changes)).toEqual([
    'apps/cli/src/string-utils/b.ts:1 name',
    'packages/domain/src/helpers/a.ts:1 name',
    'tools/utils.ts:1 name',
  ]);
});

test('length: above 600 lines a comment says why', () => {
  const long = 'export {};\n'.repeat(601);
  const changes = {
    'packages/domain/src/a.ts': long,
    'packages/domain/src/b.ts': `// Long because it is one table.\n${long}`,
    'packages/domain/src/c.ts': 'export {};\n'.repeat(600),
    'packages/domain/src/gen/d.ts': long,
  };
  expect(inspect(changes)).toEqual(['packages/domain/src/a.ts:601 length']);
});

test('readable: what does not parse or is not there is no proof', () => {
  const changes = {
    'packages/domain/src/a.ts': 'export const = ;\n',
    'packages/domain/src/b.ts': `import './gone.ts';\n`,
  };
  expect(inspect(changes)).toEqual(['packages/domain/src/a.ts:1 readable', 'packages/domain/src/b.ts:1 readable']);
});
