import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBaton, RunFailed } from '@baton/client';
import { type Stack, startStack } from '@baton/testkit';
import { expect, onTestFinished, test } from 'vitest';

const module = new URL('./functions.ts', import.meta.url);
const versions = (name: string) => new URL(`./${name}.ts`, import.meta.url);

async function start(options: Parameters<typeof startStack>[0] = {}): Promise<Stack> {
  const stack = await startStack({ tasksModule: module, ...options });
  onTestFinished(() => stack.stop());
  return stack;
}

const effects = (file: string): { stepKey: string; name: string; pid: number }[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

/** So many that none has ended at the last kill, however slow the test is beside them. */
const STEPS = 100;

test('workers killed at and between step boundaries: no step that is in the journal is made again', async () => {
  const stack = await start({ workers: 2 });
  const file = join(stack.home, 'effects');
  writeFileSync(file, '');
  const baton = createBaton({ url: stack.url });
  const runs = await Promise.all(
    Array.from({ length: 6 }, () => baton.runs.start('walk', { input: { file, steps: STEPS, stepMs: 20 } })),
  );
  // Whoever has just made a step is killed, six times over.
  for (let kills = 0; kills < 6; kills++) {
    const before = effects(file).length;
    await expect.poll(() => effects(file).length, { timeout: 30_000 }).toBeGreaterThan(before + 3 + kills * 3);
    const journaled = await journaledSteps(runs.map((r) => r.id));
    const victim = stack.workers.find((w) => w.pid === effects(file).at(-1)!.pid) ?? stack.workers[kills % 2]!;
    await victim.kill('SIGKILL');
    victim.relaunch();
    // What was in the journal before the kill is made no more: counted at the end.
    for (const key of journaled) counted.set(key, effects(file).filter((e) => e.stepKey === key).length);
  }
  for (const run of runs) expect((await run.result()).output).toMatchObject({ sum: (STEPS * (STEPS + 1)) / 2 });
  const all = effects(file);
  for (const [key, times] of counted) expect(all.filter((e) => e.stepKey === key)).toHaveLength(times);
  for (const run of runs)
    for (let n = 1; n <= STEPS; n++) {
      const times = all.filter((e) => e.stepKey === `${run.id}/${n}`).length;
      expect(times).toBeGreaterThanOrEqual(1);
      expect(times).toBeLessThanOrEqual(7);
    }
  // At most the one step in flight of each run is made once more at each kill.
  expect(all.length).toBeLessThanOrEqual(6 * STEPS + 6 * 6);

  async function journaledSteps(ids: string[]): Promise<string[]> {
    const journals = await Promise.all(ids.map((id) => baton.runs.journal(id)));
    return journals.flatMap((j) => j.entries.filter((e) => e.position > 0).map((e) => `${j.runId}/${e.number}`));
  }
}, 120_000);

const counted = new Map<string, number>();

test('a sleep and a wait outlive a killed master and killed workers; signals sent meanwhile are kept', async () => {
  const stack = await start({ workers: 1 });
  const file = join(stack.home, 'effects');
  writeFileSync(file, '');
  const baton = createBaton({ url: stack.url });
  const run = await baton.runs.start('order', { input: { file, sleepMs: 4_000 } });
  await expect.poll(async () => (await run.status()).waitingFor ?? [], { timeout: 20_000 }).toContain('sleep');
  await run.signal('approved', { by: 'Bob' });
  await Promise.all([stack.master.kill('SIGKILL'), stack.workers[0]!.kill('SIGKILL')]);
  await stack.master.restart();
  await stack.workers[0]!.restart();
  expect((await run.result()).output).toMatchObject({ approved: { by: 'Bob' }, sum: 3, six: 6 });
  expect(effects(file).map((e) => e.name)).toEqual(['charge', 's1', 's2']);
}, 60_000);

test('a master that is killed over and over loses no step and no wake-up', async () => {
  // Leases that outlive the restarts of a master on a loaded machine: beyond them a step in flight would be made again.
  const stack = await start({ workers: 1, env: { BATON_LEASE_TTL_MS: '20000', BATON_HEARTBEAT_MS: '1000' } });
  const file = join(stack.home, 'effects');
  writeFileSync(file, '');
  const baton = createBaton({ url: stack.url });
  const walks = await Promise.all(
    Array.from({ length: 4 }, () => baton.runs.start('walk', { input: { file, steps: 40, stepMs: 30 } })),
  );
  const waits = await Promise.all(Array.from({ length: 10 }, () => baton.runs.start('patient', { input: file })));
  for (let i = 0; i < 3; i++) {
    const before = effects(file).length;
    await expect.poll(() => effects(file).length, { timeout: 30_000 }).toBeGreaterThan(before + 5);
    await stack.master.restart();
    for (const run of waits.slice(3 * i, 3 * i + 3)) await run.signal('answer', 1);
  }
  await waits[9]!.signal('answer', 1);
  for (const run of walks) expect((await run.result()).output).toMatchObject({ sum: 820 });
  for (const run of waits) expect((await run.result()).output).toBe(1);
  // No worker was lost: each step was made once.
  const keys = effects(file).map((e) => e.stepKey);
  expect(new Set(keys).size).toBe(keys.length);
  expect(keys).toHaveLength(4 * 40 + 10);
}, 120_000);

test('a run stays on the version that it began with, and waits for a worker that has it', async () => {
  const stack = await start({ workers: [{ name: 'old', tasksModule: versions('version-1') }] });
  const baton = createBaton({ url: stack.url });
  const run = await baton.runs.start('versioned');
  await expect.poll(async () => (await run.status()).state).toBe('waiting');
  await stack.worker('old').kill('SIGKILL');
  await stack.addWorker({ name: 'new', tasksModule: versions('version-2') });
  await run.signal('go', 1);
  const fresh = await baton.runs.start('versioned');
  await fresh.signal('go', 1);
  expect((await fresh.result()).output).toBe('two');
  expect((await run.status()).release).toBe('1');
  await stack.worker('old').restart();
  expect((await run.result()).output).toBe('one');
}, 60_000);

test('changed code without a version is refused with the step that differs; right code goes on with a retry', async () => {
  const stack = await start({ workers: [{ name: 'first', tasksModule: versions('unversioned-1') }] });
  const baton = createBaton({ url: stack.url });
  const run = await baton.runs.start('changing');
  await expect.poll(async () => (await run.status()).state).toBe('waiting');
  await stack.worker('first').kill('SIGTERM');
  await stack.addWorker({ name: 'second', tasksModule: versions('unversioned-2') });
  await run.signal('go', 1);
  const failed = (await run.result().catch((error: unknown) => error)) as RunFailed;
  expect(failed).toBeInstanceOf(RunFailed);
  expect(failed.run.failureMessage).toMatch(/step 1 is step `charge` in the journal, step `refund` in the code/);
  expect(failed.run.failure).toMatchObject({ type: 'EVALUATION_ERROR', exceptionType: 'NonDeterminism' });
  await stack.worker('second').kill('SIGTERM');
  await stack.worker('first').restart();
  await run.retry();
  expect((await run.result()).output).toBe('charged');
}, 60_000);
