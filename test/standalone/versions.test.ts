import { startStandalone } from '@baton/cli/standalone';
import { RunFailed } from '@baton/client';
import { testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { changing as charges } from '../functions/unversioned-1.ts';
import { changing as refunds } from '../functions/unversioned-2.ts';
import { versioned as first } from '../functions/version-1.ts';
import { versioned as second } from '../functions/version-2.ts';

type Tasks = NonNullable<Parameters<typeof startStandalone>[0]>['tasks'];

/** Processes that follow one another, each with code of its own. */
async function during<T>(
  databaseUrl: string,
  tasks: Tasks,
  work: (standalone: Awaited<ReturnType<typeof startStandalone>>) => Promise<T>,
): Promise<T> {
  await using standalone = await startStandalone({ tasks, databaseUrl, settings: { sweepIntervalMs: 100 } });
  return await work(standalone);
}

test('a run stays on the version that it began with, over processes with other code', async () => {
  await using database = await testDatabase();
  const id = await during(database.url, [first], async ({ baton }) => {
    const run = await baton.runs.start(first);
    await expect.poll(async () => (await run.status()).state).toBe('waiting');
    return run.id;
  });
  await during(database.url, [second], async ({ baton }) => {
    await baton.runs.handle(id).signal('go', 1);
    const fresh = await baton.runs.start(second);
    await fresh.signal('go', 1);
    expect(await fresh.output()).toBe('two');
    expect(await baton.runs.get(id)).toMatchObject({ release: '1', state: expect.stringMatching(/running|waiting/) });
  });
  await during(database.url, [first], async ({ baton }) => {
    expect(await baton.runs.handle(id).output()).toBe('one');
  });
}, 60_000);

test('changed code without a version is refused with the step that differs; right code goes on with a retry', async () => {
  await using database = await testDatabase();
  const id = await during(database.url, [charges], async ({ baton }) => {
    const run = await baton.runs.start(charges);
    await expect.poll(async () => (await run.status()).state).toBe('waiting');
    return run.id;
  });
  await during(database.url, [refunds], async ({ baton }) => {
    const run = baton.runs.handle(id);
    await run.signal('go', 1);
    const failed = (await run.result().catch((error: unknown) => error)) as RunFailed;
    expect(failed).toBeInstanceOf(RunFailed);
    expect(failed.message).toMatch(/step 1 is step `charge` in the journal, step `refund` in the code/);
  });
  await during(database.url, [charges], async ({ baton }) => {
    const run = baton.runs.handle(id);
    await run.retry();
    expect(await run.output()).toBe('charged');
  });
}, 60_000);
