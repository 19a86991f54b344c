import { expect, test } from 'vitest';
import { FAULTS } from './faults/index.ts';
import { drawTask } from './operations/task-mix.ts';
import { createRandom } from './random.ts';
import { asTable } from './report.ts';
import { runChaos } from './run.ts';
import { drawTimetable } from './timetable.ts';

test('the seed decides which faults come when and which tasks are submitted; the first round has each fault once', () => {
  const timetable = (seed: string) =>
    drawTimetable(FAULTS, createRandom(seed), 120_000).map(({ atMs, fault }) => `${atMs} ${fault.name}`);
  expect(timetable('1')).toEqual(timetable('1'));
  expect(timetable('1')).not.toEqual(timetable('2'));
  const first = timetable('1').slice(0, FAULTS.length);
  expect(new Set(first.map((line) => line.split(' ')[1])).size).toBe(FAULTS.length);
  const tasks = (seed: string) => {
    const random = createRandom(seed).fork('load').fork('c1.1');
    // Points in time are the clock's.
    return Array.from({ length: 200 }, () => ({ ...drawTask(random, () => 'key'), runAt: undefined }));
  };
  expect(tasks('1')).toEqual(tasks('1'));
  expect(tasks('1')).not.toEqual(tasks('2'));
  expect(new Set(tasks('1').map(({ kind }) => kind)).size).toBeGreaterThanOrEqual(5);
});

test('a minute of chaos: nothing is lost, nothing ends twice, every stale write is refused, all settles', {
  timeout: 240_000,
}, async () => {
  const lines: string[] = [];
  const never = new Promise<never>(() => {});
  const options = { minutes: 1, seed: 'ci', output: 'table', masters: 3, workers: 5, keep: false } as const;
  const report = await runChaos(options, (line) => lines.push(line), never);
  // The report says more than an expectation could.
  if (report.failed) expect.fail(`${lines.join('\n')}\n${asTable(report)}`);
  // It was not idle: 1 431 on two cores at a load of 18.
  expect(report.acknowledged).toBeGreaterThanOrEqual(700);
  expect(report.faultsFired).toBeGreaterThanOrEqual(10);
  expect(report.staleCallsRefused).toBeGreaterThanOrEqual(10);
  expect(report.settleSeconds).toBeLessThanOrEqual(60);
});
