import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import { LANE_WAYS, type LaneRun } from './lanes.ts';
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

test('lanes has all tasks done in every way, and says what each is beside the plain one', { timeout }, async () => {
  const report = await measured('lanes', '--tasks', '1200');
  const runs = report.results.slice(0, LANE_WAYS.length) as Result<LaneRun>[];
  expect(runs.map(({ shape }) => shape.way)).toEqual([...LANE_WAYS]);
  const [plain] = runs;
  for (const { runs: each } of runs)
    expect(each[0]!.history).toMatchObject({ tasks: 1_200, outcomes: 1_200, attempts: 1_200, events: 3_600 });
  const ratios = report.results.slice(LANE_WAYS.length);
  expect(ratios.map(({ shape }) => shape.way)).toEqual(LANE_WAYS.slice(1));
  const rate = (result: Result<LaneRun>) => result.runs[0]!.tasksPerSecond;
  expect(ratios[0]!.figures.times!.median).toBeCloseTo(rate(runs[1]!) / rate(plain!), 1);
});
