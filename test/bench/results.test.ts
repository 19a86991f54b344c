import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import type { Report } from './report.ts';
import type { Result } from './result.ts';
import type { ResultRun } from './results.ts';

test('results brings every caller the result of each of its tasks, and counts them in Postgres', {
  timeout: 60_000,
}, async () => {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const args = [main, 'results', '--seconds', '0.3', '-o', 'json', '--reps', '1', '--postgres', inject('postgresUrl')];
  const text = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, args, { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr, { cause: error })) : resolve(stdout),
    );
  });
  const runs = ((JSON.parse(text) as Report).results as Result<ResultRun>[]).flatMap((result) => result.runs);
  expect(runs.map(({ way, atOnce }) => [way, atOnce])).toEqual([
    ['loops', 1],
    ['loops', 16],
    ['loops', 128],
    ['burst', 2_000],
  ]);
  for (const { tasks, resultMs } of runs) expect(resultMs.samples).toBe(tasks);
  expect(runs[3]!.tasks).toBe(2_000);
});
