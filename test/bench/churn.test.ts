import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import type { ChurnRun } from './churn.ts';
import type { Report } from './report.ts';
import type { Result } from './result.ts';

const timeout = 60_000;

async function measured(...argv: string[]): Promise<Report> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const args = [main, ...argv, '-o', 'json', '--reps', '1', '--postgres', inject('postgresUrl')];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr, { cause: error })) : resolve(JSON.parse(stdout) as Report),
    );
  });
}

test('churn has all tasks done without and with a snapshot that is held, and tells the speed of each tenth', {
  timeout,
}, async () => {
  const report = await measured('churn', '--tasks', '1000');
  const [none, held, ratio] = report.results as Result<ChurnRun>[];
  const runs = [...none!.runs, ...held!.runs];
  expect(runs.map(({ snapshot, tasks, ahead }) => [snapshot, tasks, ahead])).toEqual([
    ['none', 1_000, 200],
    ['held', 1_000, 200],
  ]);
  for (const { history, tenths, tasksPerSecond, tables, tasks } of runs) {
    expect(history).toMatchObject({ tasks: 1_200, outcomes: 1_200, attempts: 1_200, events: 3_600 });
    expect(tenths).toHaveLength(10);
    // The tenths one after the other are the whole.
    const seconds = tenths.reduce(
      (sum, { tasksPerSecond: tenth }) => sum + (tenth === null ? 0 : tasks / 10 / tenth),
      0,
    );
    expect(tasks / seconds).toBeCloseTo(tasksPerSecond, 3);
    expect(tables.map(({ table }) => table)).toEqual(['ready', 'leases']);
    for (const { tableMb } of tables) expect(tableMb).toBeGreaterThan(0);
  }
  const times = held!.runs[0]!.tasksPerSecond / none!.runs[0]!.tasksPerSecond;
  expect(ratio!.figures.times!.median).toBeCloseTo(times, 1);
});
