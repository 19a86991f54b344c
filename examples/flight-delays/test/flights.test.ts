import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { startStandalone } from '@baton/cli/standalone';
import { createBaton, type RunView, type WorkflowDefinition } from '@baton/client';
import { checkWorkflowFile } from '@baton/client/workflow-file';
import { testDatabase } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { expect, test } from 'vitest';
import { drawDelays } from '../src/chart.ts';
import { countDelays } from '../src/statistics.ts';
import * as tasks from '../src/tasks.ts';

const stack = useStack({ workers: 3, tasksModule: new URL('../src/tasks.ts', import.meta.url) });

async function definition() {
  const path = fileURLToPath(new URL('../flight-delays.yaml', import.meta.url));
  const checked = checkWorkflowFile(await readFile(path, 'utf8'), { format: 'yaml' });
  return checked.ok ? (checked.value as WorkflowDefinition) : expect.fail(JSON.stringify(checked.problems));
}

/** The same without Baton: one loop over all flights. */
async function expectPlainResult(run: RunView): Promise<void> {
  const cells = countDelays(await tasks.readFlights());
  expect(cells).toHaveLength(13_807);
  expect(run.output).toEqual({ statistics: cells, chart: drawDelays(cells) });
}

test('a fan-out over 200 000 flights, whose workers are killed in the middle, gives what one loop gives', {
  timeout: 120_000,
}, async () => {
  const baton = createBaton({ url: stack().url });
  const countedChunks = async () => {
    let count = 0;
    for await (const _ of baton.tasks.list({ states: ['succeeded'], kind: 'flights-count' })) count++;
    return count;
  };
  const run = await baton.runs.start(await definition(), { input: { chunk: 2_000 } });
  for (const [killed, counted] of [10, 40].entries()) {
    await expect.poll(countedChunks, { timeout: 30_000 }).toBeGreaterThanOrEqual(counted);
    await stack().workers[killed]!.kill('SIGKILL');
  }
  const result = await run.result();
  await expectPlainResult(result);
  expect(await countedChunks()).toBe(100);
});

test('the same in one process gives the same', { timeout: 60_000 }, async () => {
  await using database = await testDatabase();
  await using standalone = await startStandalone({ tasks, databaseUrl: database.url });
  const run = await standalone.baton.runs.start(await definition(), { input: { chunk: 5_000 } });
  await expectPlainResult(await run.result());
});
