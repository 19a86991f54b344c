import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

test('list shows what is in each queue, which is held, and counts that end at the bound as such', async () => {
  const { baton, fake } = await commandLine();
  fake.addQueue({ name: 'default', ready: 10_000, waiting: 3, leased: 2, oldestReady: { seconds: 0n } });
  fake.addQueue({ name: 'night', paused: true });
  const { stdout } = await baton(['queue', 'list']);
  expect(stdout).toMatch(/\ndefault +● open +- +10000\+ +2\.0 s +3 +2\n/);
  expect(stdout).toMatch(/\nnight +‖ paused +- +0 +- +0 +0\n/);
  expect(JSON.parse((await baton(['queue', 'list', '-o', 'json'])).stdout)).toMatchObject([
    { name: 'default', paused: false, ready: 10_000 },
    { name: 'night', paused: true },
  ]);
});

test('pause and resume say what they changed, and leave a line in the log', async () => {
  const { baton, log } = await commandLine();
  expect((await baton(['queue', 'pause', 'night'])).stdout).toBe('queue night is paused; what runs goes on\n');
  expect((await baton(['queue', 'pause', 'night'])).stdout).toBe('queue night was paused already\n');
  expect(JSON.parse((await baton(['queue', 'resume', 'night', '-o', 'json'])).stdout)).toEqual({
    name: 'night',
    paused: false,
    wasPaused: true,
  });
  expect((await baton(['queue', 'resume', 'night'])).stdout).toBe('queue night was not paused\n');
  expect(await log()).toMatchObject([{ command: 'queue pause', queue: 'night', was_paused: false }, {}, {}, {}]);
});

test('an unknown queue cannot go on', async () => {
  const { baton } = await commandLine();
  const { exitCode, stderr } = await baton(['queue', 'resume', 'nigth']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain('queue nigth does not exist');
});

test('set changes what is named, and says how it is then', async () => {
  const { baton, fake } = await commandLine();
  fake.addQueue({ name: 'night', placement: 'worst_fit' });
  const { stdout } = await baton(['queue', 'set', 'night', '--strategy', 'fifo']);
  expect(stdout).toBe('queue night: strategy fifo, placement worst_fit\n');
  expect((await baton(['queue', 'list'])).stdout).toMatch(/\nnight +● open +fifo worst_fit +0/);
  const json = await baton(['queue', 'set', 'night', '--strategy', 'default', '-o', 'json']);
  expect(JSON.parse(json.stdout)).toEqual({ name: 'night', strategy: null, placement: 'worst_fit' });
  expect((await baton(['queue', 'set', 'night'])).stderr).toContain('nothing to set');
  expect((await baton(['queue', 'set', 'night', '--strategy', 'lottery'])).exitCode).not.toBe(0);
});
