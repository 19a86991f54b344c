// Pages in a real Chromium, of their own origins.
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { createBaton } from '@baton/client';
import { type Stack, startStack } from '@baton/testkit';
import { type Browser, chromium, type Page as Tab } from 'playwright-core';
import { build } from 'vite';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Page } from './page/main.ts';

// biome-ignore lint/suspicious/noUndeclaredEnvVars: no task of turbo
const executable = process.env.CHROMIUM_PATH || '/usr/bin/chromium';
const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const types: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript' };

let stack: Stack;
let browser: Browser;
let folder: string;
let allowed: Server;
let foreign: Server;
let allowedOrigin: string;
let foreignOrigin: string;

/** The built page on a port, and so an origin, of its own. */
async function serveFolder(): Promise<{ server: Server; origin: string }> {
  const server = createServer((request, response) => {
    const path = request.url === '/' ? '/index.html' : request.url!;
    readFile(join(folder, path)).then(
      (body) => response.setHeader('content-type', types[extname(path)] ?? 'text/plain').end(body),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

beforeAll(async () => {
  if (!existsSync(executable)) {
    throw new Error(
      `there is no Chromium at ${executable}: apt-get update && apt-get -y --no-install-recommends install chromium, or set CHROMIUM_PATH`,
    );
  }
  folder = await mkdtemp(join(tmpdir(), 'baton-page-'));
  await build({
    root: join(import.meta.dirname, 'page'),
    configFile: false,
    logLevel: 'error',
    build: { outDir: folder, emptyOutDir: true, target: 'es2024' },
  });
  ({ server: allowed, origin: allowedOrigin } = await serveFolder());
  ({ server: foreign, origin: foreignOrigin } = await serveFolder());
  stack = await startStack({
    tasksModule: new URL('./tasks.ts', import.meta.url),
    env: { BATON_CORS_ORIGINS: allowedOrigin, BATON_WORKER_CORS_ORIGINS: allowedOrigin },
  });
  browser = await chromium.launch({ executablePath: executable, args: flags });
});

beforeEach(({ onTestFailed }) => {
  onTestFailed(() => void process.stderr.write(`${stack?.logs()}\n`));
});

afterAll(async () => {
  await browser?.close();
  allowed?.close();
  foreign?.close();
  await stack?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** A tab with the page, and everything that the browser complains of in it. */
async function open(url: string): Promise<{ tab: Tab; complaints: string[] }> {
  const tab = await browser.newPage();
  const complaints: string[] = [];
  tab.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  tab.on('pageerror', (error) => complaints.push(String(error)));
  await tab.goto(url);
  return { tab, complaints };
}

declare const page: Page;

describe('a page of an allowed origin', () => {
  test('submits a task, watches it to its end, reads its output and its log', async () => {
    const { tab, complaints } = await open(allowedOrigin);
    const file = join(stack.home, 'gate');
    await tab.exposeFunction('release', () => writeFile(file, ''));
    const seen = await tab.evaluate(([url, gate]) => page.run(url, gate), [stack.url, file] as const);
    expect(seen).toMatchObject({ output: 42, lines: ['line 1', 'line 2', 'the end'] });
    expect(seen.states.slice(-2)).toEqual(['leased', 'succeeded']);
    expect(complaints).toEqual([]);
    expect(await createBaton({ url: stack.url }).tasks.get(seen.id)).toMatchObject({ state: 'succeeded', output: 42 });
    await tab.close();
  });

  test('reads why something was refused', async () => {
    const { tab } = await open(allowedOrigin);
    expect(await tab.evaluate((url) => page.invalid(url), stack.url)).toEqual({
      code: 'invalid_argument',
      reason: 'INVALID_REQUEST',
      fields: expect.arrayContaining(['task.kind', 'task.priority']),
    });
    await tab.close();
  });

  test.for(['connect', 'grpc-web'] as const)('asks a worker for its status by %s', async (protocol) => {
    const { tab } = await open(allowedOrigin);
    const { url } = stack.worker('w1');
    const status = await tab.evaluate(([to, how]) => page.workerStatus(to, how), [url, protocol] as const);
    expect(status).toEqual({ name: 'w1', masterUrl: stack.url });
    await tab.close();
  });
});

test('a page of another origin reaches neither master nor worker', async () => {
  const { tab, complaints } = await open(foreignOrigin);
  const before = await submitted();
  expect(await tab.evaluate((url) => page.refused(url), stack.url)).toMatchObject({
    isBatonError: true,
    code: 'unavailable',
  });
  expect(await tab.evaluate((url) => page.refused(url), stack.worker('w1').url)).toMatchObject({ isBatonError: true });
  await expect(tab.evaluate((url) => page.workerStatus(url, 'connect'), stack.worker('w1').url)).rejects.toThrow();
  // A request that needs no preflight is refused by the server and not only hidden by the browser.
  const simple = await tab.evaluate(async (url) => {
    const body = JSON.stringify({ task: { kind: 'sum', input: { a: 1, b: 1 } } });
    await fetch(`${url}/baton.v1.TaskService/SubmitTask`, { method: 'POST', mode: 'no-cors', body }).catch(() => {});
    return 'sent';
  }, stack.url);
  expect(simple).toBe('sent');
  expect(await submitted()).toBe(before);
  expect(complaints.join('\n')).toContain('CORS');
  await tab.close();
});

async function submitted(): Promise<number> {
  const [metric] = await createBaton({ url: stack.url }).system.metrics(['baton_tasks_submitted_total']);
  return metric!.value;
}

test("the master's own page shows what runs, under its content security policy", async () => {
  const baton = createBaton({ url: stack.url });
  const run = await baton.runs.start({
    name: 'shown <b>on the page</b>',
    nodes: { only: { task: 'echo', input: 1 } },
  });
  await run.result();
  const task = await baton.submit({ kind: '<img src=x onerror=alert(1)>' });
  const response = await fetch(stack.url);
  expect(response.headers.get('content-security-policy')).toContain("script-src 'self'");
  const { tab, complaints } = await open(stack.url);
  await tab.getByRole('cell', { name: run.id, exact: true }).waitFor();
  await tab.getByRole('cell', { name: task.id, exact: true }).waitFor();
  const text = await tab.locator('main').textContent();
  expect(text).toContain('shown <b>on the page</b>');
  expect(text).toContain('✓ succeeded');
  expect(text).toContain('<img src=x onerror=alert(1)>');
  expect(await tab.getByRole('status').textContent()).toMatch(/✓ version .* PostgreSQL \d+/);
  expect(await tab.locator('main img, main b').count()).toBe(0);
  expect(complaints).toEqual([]);
  await tab.close();
  await task.cancel();
});
