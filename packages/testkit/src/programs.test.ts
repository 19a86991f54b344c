import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { programMain, withSourcePlaces } from './programs.ts';

test('tests run bundles, and the sources where they ask for them', async () => {
  expect(await programMain('@baton/master/main')).toBe(join(inject('programs'), 'master.js'));
  expect(await programMain('@baton/worker/main', 'source')).toMatch(/\/apps\/worker\/src\/main\.ts$/);
});

test('stack traces of a bundle name the places in the sources', async () => {
  // In a process of its own: vitest's own stack traces are mapped.
  const program = `(await import(${JSON.stringify(join(inject('programs'), 'domain.js'))})).createIdMaker(-1, Date.now)`;
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
  expect(stderr).toContain('/baton-test-programs/');
  expect(withSourcePlaces(stderr)).toMatch(/ \(\/\S*\/packages\/domain\/src\/ids\.ts:\d+:\d+\)/);
  const [first] = withSourcePlaces(stderr)
    .split('\n')
    .filter((line) => line.includes('createIdMaker ('));
  expect(first).not.toContain('/baton-test-programs/');
});
