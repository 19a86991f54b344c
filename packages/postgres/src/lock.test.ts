import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { testHome } from './cluster.fixture.ts';
import { withLock } from './lock.ts';

test('in one process, bodies run one after the other', async () => {
  await using home = await testHome();
  const lockFile = join(home.path, 'lock');
  let inside = 0;
  let most = 0;
  const body = async () => {
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setImmediate(resolve));
    inside--;
  };
  await Promise.all(Array.from({ length: 5 }, () => withLock(lockFile, 10_000, body)));
  expect(most).toBe(1);
  await expect(withLock(lockFile, 10_000, () => Promise.reject(new TypeError('mine')))).rejects.toThrow('mine');
  expect(await withLock(lockFile, 0, async () => 'free again')).toBe('free again');
});

test('a lock is gone with the process that held it, however it died', async () => {
  await using home = await testHome();
  const lockFile = join(home.path, 'lock');
  const program = fileURLToPath(new URL('./lock.fixture.ts', import.meta.url));
  const child = spawn(process.execPath, [program, lockFile], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(child.stdout, 'data');
    await expect(withLock(lockFile, 50, async () => {})).rejects.toMatchObject({ reason: 'LOCK_TIMEOUT' });
  } finally {
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
  expect(await withLock(lockFile, 0, async () => 'taken over')).toBe('taken over');
});
