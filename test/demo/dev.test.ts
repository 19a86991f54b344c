import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { Home, until } from './process.ts';

const versions = (text: string) => `
export const version = { __baton: 'task', id: 'version', run: () => '${text}' };
export const hold = { __baton: 'task', id: 'hold', run: async () => {
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  return '${text}';
} };
`;

test('turbo run dev: an edited task is live at once, and what runs keeps its lease', { timeout: 120_000 }, async () => {
  const home = new Home();
  const file = join(home.directory, 'tasks.mjs');
  writeFileSync(file, versions('one'));
  const dev = home.run('npx', ['turbo', 'run', 'dev', '--', '--tasks', file, '--out', home.outputs]);
  const [, url] = await dev.says(/API +(http:\S+)/);
  await dev.says(/live when it is saved/);
  const baton = createBaton({ url });
  const version = async () => (await baton.submit<string>({ kind: 'version' })).result();
  expect(await version()).toBe('one');
  const held = await baton.submit<string>({ kind: 'hold' });
  await until(
    async () => (await held.status()).state === 'leased',
    10_000,
    () => dev.text,
  );
  writeFileSync(file, versions('two'));
  await until(
    async () => (await version()) === 'two',
    3_000,
    () => dev.text,
  );
  expect(await held.result()).toBe('one');
  expect((await held.status()).attempts.map(({ state }) => state)).toEqual(['succeeded']);
  dev.interrupt();
  await dev.ended;
  await home.untilNothingRuns();
});
