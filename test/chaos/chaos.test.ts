import { expect, test } from 'vitest';
import { asTable } from './report.ts';
import { runChaos } from './run.ts';

test('a minute of chaos: nothing is lost, nothing ends twice, every stale write is refused, all settles', {
  timeout: 240_000,
}, async () => {
  const lines: string[] = [];
  const never = new Promise<never>(() => {});
  const options = { minutes: 1, seed: 'ci', output: 'table', masters: 3, workers: 5, keep: false } as const;
  const report = await runChaos(options, (line) => lines.push(line), never);
  // The report says more than an expectation could.
  if (report.failed) expect.fail(`${lines.join('\n')}\n${asTable(report)}`);
  expect(report.acknowledged).toBeGreaterThanOrEqual(1_500);
  expect(report.faultsFired).toBeGreaterThanOrEqual(10);
  expect(report.staleCallsRefused).toBeGreaterThanOrEqual(10);
  expect(report.settleSeconds).toBeLessThanOrEqual(60);
});
