import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readConfig } from './config.ts';
import { commandLine } from './testing.fixture.ts';

async function withUpFile(text: string) {
  const line = await commandLine();
  const home = join(line.directory, 'home');
  await mkdir(home);
  await writeFile(join(home, 'up.json'), text);
  return { ...line, home };
}

test('the address: flag, then BATON_URL, then BATON_PORT, then the file of `baton up`, then the default', async () => {
  const { home } = await withUpFile('{"url":"http://127.0.0.1:4711"}');
  const file = join(home, 'up.json');
  expect(readConfig({}).url).toEqual({ value: 'http://127.0.0.1:7800', source: 'default', from: '' });
  expect(readConfig({ BATON_HOME: home }).url).toEqual({ value: 'http://127.0.0.1:4711', source: 'file', from: file });
  expect(readConfig({ BATON_HOME: home, BATON_PORT: '0' }).url.source).toBe('file');
  expect(readConfig({ BATON_HOME: home, BATON_PORT: '8000' }).url).toMatchObject({
    value: 'http://127.0.0.1:8000',
    from: 'BATON_PORT',
  });
  expect(readConfig({ BATON_HOME: home, BATON_PORT: '8000', BATON_URL: 'https://baton.example/' }).url).toEqual({
    value: 'https://baton.example',
    source: 'env',
    from: 'BATON_URL',
  });
});

test.each(['', '{', '[]', 'null', '{"url":7}', '{"url":"file:///etc/passwd"}'])(
  'a broken file of `baton up` counts for nothing: %s',
  async (text) => {
    const { home } = await withUpFile(text);
    expect(readConfig({ BATON_HOME: home }).url.source).toBe('default');
  },
);

test('an address that came from the file is named when nobody answers there', async () => {
  const { baton, fake, home } = await withUpFile('{"url":"http://127.0.0.1:4711"}');
  const { Code, ConnectError } = await import('@connectrpc/connect');
  fake.failNext('listRuns', new ConnectError('refused', Code.Unavailable));
  const { stderr } = await baton(['run', 'list']);
  expect(stderr).toContain(`http://127.0.0.1:4711 (from ${join(home, 'up.json')})`);
});

test('config show says for every setting what it is and where it came from, and no password', async () => {
  const { baton } = await commandLine();
  const env = { BATON_NAMESPACE: 'tests', DATABASE_URL: 'postgres://baton:s3cret@db/baton?password=s3cret' };
  const { stdout } = await baton(['config', 'show', '--url', 'http://10.0.0.1:1', '-o', 'json'], { env });
  const settings = JSON.parse(stdout) as { name: string; value: string; source: string }[];
  expect(Object.fromEntries(settings.map(({ name, value, source }) => [name, [value, source]]))).toMatchObject({
    url: ['http://10.0.0.1:1', 'flag'],
    namespace: ['tests', 'env'],
    port: ['7800', 'default'],
    logLevel: ['info', 'default'],
    databaseUrl: ['postgres://baton:***@db/baton?password=***', 'env'],
  });
  const table = await baton(['config', 'show'], { env });
  expect(table.stdout).toContain('env: BATON_NAMESPACE');
  expect(stdout + table.stdout).not.toContain('s3cret');
});

test('version prints it for people and programs', async () => {
  const { baton } = await commandLine();
  expect((await baton(['version'])).stdout).toMatch(/^baton \d+\.\d+\.\d+ \(Node /);
  expect(JSON.parse((await baton(['version', '-o', 'json'])).stdout)).toMatchObject({ node: process.versions.node });
});
