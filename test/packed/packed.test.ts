// What a user has: the three tarballs in an empty project, and nothing of this repository.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { type Browser, chromium } from 'playwright-core';
import { build } from 'vite';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Page } from './project/page/main.ts';
import { run, runWell, start, userEnvironment } from './shell.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 240_000 });

const repository = fileURLToPath(new URL('../../', import.meta.url));
const deno: string = createRequire(import.meta.url)('deno/install_api.cjs').runInstall();
const chromiumFlags =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';

let folder: string;
/** Made by `baton init`; the user's own files are beside what it wrote. */
let project: string;
/** `npm start` in it. */
let up: ChildProcess;
let url: string;
let page: Server;
let origin: string;
let browser: Browser | undefined;

const baton = (...args: string[]) => run('npx', ['--no', 'baton', ...args], { cwd: project });
const upFile = () => JSON.parse(readFileSync(join(project, '.baton/up.json'), 'utf8'));

/** As a user's editor does. */
async function typeCheck(name: string, files: string[]) {
  const compilerOptions = {
    target: 'es2024',
    module: 'nodenext',
    lib: ['es2024', 'dom', 'esnext.disposable', 'esnext.iterator'],
    strict: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    types: ['node'],
    typeRoots: [join(repository, 'node_modules/@types')],
  };
  await writeFile(join(project, `${name}.json`), JSON.stringify({ compilerOptions, files }));
  return run(join(repository, 'node_modules/.bin/tsc'), ['-p', `${name}.json`], { cwd: project });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'baton-packed-'));
  await chmod(folder, 0o755); // as a user's own; a server that root starts runs as somebody else
  const packs = join(folder, 'packs');
  const pack = (name: string) =>
    runWell(process.execPath, ['tools/pack.ts', name, '--out', packs], { cwd: repository });
  const tarballs = (await Promise.all(['client', 'worker', 'cli'].map(pack))).map((path) => path.trim());
  const empty = join(folder, 'empty');
  await mkdir(empty);
  await writeFile(join(empty, 'package.json'), '{}');
  await runWell('npm', ['install', '--prefer-offline', ...tarballs], { cwd: empty });
  await runWell('npx', ['--no', 'baton', 'init', 'my-project', '--packages', packs], { cwd: empty });
  project = join(empty, 'my-project');
  await runWell('npm', ['install', '--prefer-offline'], { cwd: project });
  await cp(new URL('./project/', import.meta.url), project, { recursive: true });

  page = createServer((request, response) => {
    const path = request.url === '/' ? '/index.html' : request.url!;
    const type = extname(path) === '.js' ? 'text/javascript' : 'text/html';
    readFile(join(project, 'page/dist', path)).then(
      (body) => response.setHeader('content-type', type).end(body),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;

  // A group of its own, so that nothing of it outlives this test, whatever happens.
  up = start('npm', ['start'], {
    cwd: project,
    detached: true,
    env: userEnvironment({ BATON_PORT: '0', BATON_CORS_ORIGINS: origin }),
  });
  let said = '';
  for (const stream of [up.stdout!, up.stderr!]) stream.on('data', (data) => (said += data));
  await new Promise<void>((resolve, reject) => {
    up.stderr!.on('data', () => said.includes('Try:') && resolve());
    up.once('close', (code) => reject(new Error(`npm start ended with ${code}\n${said}`)));
  });
  url = /http:\/\/127\.0\.0\.1:\d+/.exec(said)![0];
});

afterAll(async () => {
  await browser?.close();
  page?.close();
  if (up?.exitCode === null) {
    await baton('stop');
    if (up.exitCode === null) process.kill(-up.pid!, 'SIGKILL');
  }
  if (folder) await rm(folder, { recursive: true, force: true });
});

test('what is installed is JavaScript with declarations, and nothing of Baton beside the three', () => {
  const installed = join(project, 'node_modules/@baton');
  expect(readdirSync(installed).sort()).toEqual(['cli', 'client', 'worker']);
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  expect(files.filter((file) => /(?<!\.d)\.tsx?$/.test(file))).toEqual([]);
  expect(files.filter((file) => /\.test\.|fixture|testing\//.test(file))).toEqual([]);
  const code = files.filter((file) => /\.(js|d\.ts|json|html)$/.test(file));
  const leaky = code.filter((file) => readFileSync(join(installed, file), 'utf8').includes(repository));
  expect(leaky).toEqual([]);
});

test("the commands of the new project's README do what it says", async () => {
  const readme = await readFile(join(project, 'README.md'), 'utf8');
  const commands = [...readme.matchAll(/^ {4}(npm .*?)(?: {2,}#.*)?$/gm)].map(([, command]) => command);
  expect(commands).toEqual(['npm install', 'npm start', 'npm run hello']); // the first two: see beforeAll
  expect(await runWell('npm', ['run', '--silent', 'hello'], { cwd: project })).toBe('Hello, Ada\n');
  const program = [...readme.matchAll(/^ {4}(.*)$/gm)].map(([, line]) => line).filter((line) => !/^npm /.test(line!));
  const text = program.join('\n').replace('createBaton()', `createBaton({ url: '${url}' })`);
  expect(text).toContain(url);
  await writeFile(join(project, 'program.ts'), text);
  expect(await runWell('node', ['program.ts'], { cwd: project })).toBe('Hello, Ada\n');
});

test('the command says its version, finds the stack of its directory, and ends with the code that fits', async () => {
  const { version } = JSON.parse(readFileSync(join(repository, 'apps/cli/package.json'), 'utf8'));
  const said = await baton('version', '-o', 'json');
  expect({ ...said, stdout: JSON.parse(said.stdout) }).toMatchObject({ code: 0, stdout: { version } });

  const submitted = await baton('task', 'submit', 'hello', '--input', 'name=Bob', '--wait', '-o', 'json');
  const task = JSON.parse(submitted.stdout);
  expect(task).toMatchObject({ kind: 'hello', state: 'succeeded', output: 'Hello, Bob' });
  const list = await baton('task', 'list', '-o', 'json');
  expect(list.code).toBe(0);
  const listed: { id: string }[] = JSON.parse(list.stdout).tasks ?? JSON.parse(list.stdout);
  expect(listed.map(({ id }) => id)).toContain(task.id);
  expect((await baton('status')).stdout).toContain(url);

  const ends = await Promise.all([
    baton('task', 'get', '99'),
    baton('task', 'list', '--url', 'http://127.0.0.1:1'),
    baton('task', 'lsit'),
  ]);
  expect(ends.map(({ code }) => code)).toEqual([3, 5, 64]);
});

test("a user's own worker and program type-check against the declarations, and a mistake in them does not", async () => {
  const files = ['tasks.ts', 'own.ts', 'worker.ts', 'submit.ts', 'page/main.ts'];
  expect(await typeCheck('right', files)).toMatchObject({ code: 0, stdout: '' });
  await writeFile(
    join(project, 'mistake.ts'),
    `import { createBaton } from '@baton/client';\nimport { shout } from './own.ts';\nawait createBaton().enqueue(shout, { text: 5 });\n`,
  );
  const mistaken = await typeCheck('wrong', ['mistake.ts']);
  expect(mistaken.code).not.toBe(0);
  expect(mistaken.stdout).toMatch(/mistake\.ts\(3,\d+\): error TS2322/);
});

test("the guide's tests pass with what is installed, and type-check", async () => {
  const guide = await readFile(new URL('../../docs/guide/testing.md', import.meta.url), 'utf8');
  const own = join(project, 'guide');
  await mkdir(own);
  const files: string[] = [];
  for (const [, name, code] of guide.matchAll(/^```ts\n\/\/ ([\w.-]+).*\n([\s\S]*?)^```/gm)) {
    await writeFile(join(own, name!), code!);
    files.push(`guide/${name}`);
  }
  expect(files).toEqual(['guide/order.ts', 'guide/order.test.ts', 'guide/global-setup.ts', 'guide/report.test.ts']);
  expect(await typeCheck('guide', files)).toMatchObject({ code: 0, stdout: '' });
  const ended = await run('node', ['--test', '--test-reporter=tap'], { cwd: own });
  expect(ended.stdout).toMatch(/^# pass 4$/m);
  expect(ended.stdout).toMatch(/^# fail 0$/m);
  expect(ended.code).toBe(0);
}, 120_000);

test("a worker of the user's own carries out what Node, Deno and a page in Chromium submit", async () => {
  const worker = start('node', ['worker.ts', url], { cwd: project });
  let log = '';
  worker.stderr!.on('data', (data) => (log += data));
  const lines = createInterface({ input: worker.stdout! })[Symbol.asyncIterator]();
  const ended = once(worker, 'close');
  try {
    const first = await lines.next();
    expect(first.done, log).toBe(false);
    expect(JSON.parse(String(first.value))).toEqual({ worker: 'own-worker', state: 'idle' });

    const inNode = await runWell('node', ['submit.ts', url, 'from node'], { cwd: project });
    const denoFlags = ['--node-modules-dir=manual', '--allow-net=127.0.0.1', '--allow-env'];
    const inDeno = await runWell(deno, ['run', ...denoFlags, 'submit.ts', url, 'from deno'], { cwd: project });
    for (const [runtime, out] of Object.entries({ Node: inNode, Deno: inDeno })) {
      const text = `from ${runtime.toLowerCase()}`;
      const result = JSON.parse(out);
      expect(result).toMatchObject({
        runtime,
        output: `${text.toUpperCase()}!`,
        state: 'succeeded',
        worker: 'own-worker',
      });
      expect(result.lines).toEqual([`shouting ${text}`]);
    }

    await build({ root: join(project, 'page'), configFile: false, logLevel: 'error', build: { target: 'es2024' } });
    const scripts = readdirSync(join(project, 'page/dist/assets')).filter((file) => file.endsWith('.js'));
    const script = readFileSync(join(project, 'page/dist/assets', scripts[0]!), 'utf8');
    expect(script).not.toMatch(/from\s*["']node:|require\(/);
    browser = await chromium.launch({
      // biome-ignore lint/suspicious/noUndeclaredEnvVars: no task of turbo
      executablePath: process.env.CHROMIUM_PATH || '/usr/bin/chromium',
      args: chromiumFlags.split(' '),
    });
    const tab = await browser.newPage();
    const complaints: string[] = [];
    tab.on('console', (message) => complaints.push(message.text()));
    tab.on('pageerror', (error) => complaints.push(String(error)));
    await tab.goto(origin);
    const seen = await tab.evaluate(([url, text]) => (globalThis as unknown as { page: Page }).page.shout(url, text), [
      url,
      'from a page',
    ] as const);
    expect(seen).toMatchObject({ output: 'FROM A PAGE!' });
    expect(seen.states.at(-1)).toBe('succeeded');
    expect(complaints).toEqual([]);
    expect(await createBaton({ url }).tasks.get(seen.id)).toMatchObject({ state: 'succeeded', output: 'FROM A PAGE!' });

    worker.kill('SIGTERM');
    const last = await lines.next();
    expect(JSON.parse(String(last.value))).toEqual({ stopped: expect.any(String) });
    expect(await ended).toEqual([0, null]);
  } finally {
    worker.kill('SIGKILL');
  }
});

test('`baton stop` ends all that `npm start` began, and the data stays', async () => {
  const { pid, children } = upFile();
  const ended = once(up, 'close');
  expect((await baton('stop')).code).toBe(0);
  expect(await ended).toEqual([0, null]);
  for (const one of [pid, ...children.map((child: { pid: number }) => child.pid)])
    expect(() => process.kill(one, 0)).toThrow(/ESRCH/);
  expect(existsSync(join(project, '.baton/up.json'))).toBe(false);
  expect(existsSync(join(project, '.baton/postgres/data/PG_VERSION'))).toBe(true);
});
