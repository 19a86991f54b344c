import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findTools, versionIn } from './tools.ts';

let folder: string;
let path: string | undefined;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-tools-'));
  path = process.env.PATH;
  process.env.PATH = `${folder}:${path}`;
});
afterAll(() => {
  process.env.PATH = path;
  rmSync(folder, { recursive: true, force: true });
});

function put(name: string, body: string): void {
  const file = join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
}

test('programs on the PATH are found with their versions, in the order asked; others are left out', async () => {
  put('baton-tool-a', 'echo "tool-a version 4.2.1-rc1 (built by hand)"');
  put('baton-tool-b', 'echo "b 7.0" >&2; exit 1');
  put('baton-tool-c', 'exit 127');
  const tools = await findTools([
    'node',
    'baton-tool-b',
    'baton-tool-a',
    'baton-tool-c',
    'baton-no-such',
    '../escape',
    '--version',
  ]);
  expect(tools).toEqual([
    { name: 'node', version: expect.stringMatching(/^\d+\.\d+\.\d+/) },
    { name: 'baton-tool-b', version: '7.0' },
    { name: 'baton-tool-a', version: '4.2.1-rc1' },
  ]);
});

test('one that hangs is there without a version, is killed with its children, and holds nobody up', async () => {
  const pids = join(folder, 'pids');
  put('baton-tool-hangs', `sleep 600 & echo $! >> ${pids}; wait`);
  const before = performance.now();
  expect(await findTools(['baton-tool-hangs'], { timeoutMs: 300 })).toEqual([
    { name: 'baton-tool-hangs', version: '' },
  ]);
  expect(performance.now() - before).toBeLessThan(2_000);
  const pid = readFileSync(pids, 'utf8').trim();
  await expect.poll(() => isRunning(pid)).toBe(false);
});

function isRunning(pid: string): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

test.each([
  ['Python 3.11.4', '3.11.4'],
  ['v24.1.0', '24.1.0'],
  ['git version 2.39.5', '2.39.5'],
  ['ffmpeg version n6.1-2-gd1 Copyright', '6.1-2-gd1'],
  ['ffmpeg version 5.1.6-0+deb12u1 Copyright (c) 2000-2024', '5.1.6-0+deb12u1'],
  ['Docker version 27.3.1, build ce12230', '27.3.1'],
  ['nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.4, V12.4.131', '12.4.131'],
  ['NVIDIA-SMI version  : 550.54.15', '550.54.15'],
  ['go version go1.22.3 linux/amd64', '1.22.3'],
  ['openjdk version "17.0.12" 2024-07-16', '17.0.12'],
  ['no number here', ''],
])('the version in %j is %s', (text, version) => {
  expect(versionIn(text)).toBe(version);
});
