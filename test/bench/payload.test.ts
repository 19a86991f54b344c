import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import type { OverheadRun } from './overhead.ts';
import type { PayloadRun } from './payload.ts';
import type { Report } from './report.ts';
import type { Result } from './result.ts';

const timeout = 60_000;

async function measured<Run>(...argv: string[]): Promise<Run[]> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const args = [main, ...argv, '-o', 'json', '--reps', '1', '--postgres', inject('postgresUrl')];
  const text = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, args, { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr, { cause: error })) : resolve(stdout),
    );
  });
  return ((JSON.parse(text) as Report).results as Result<Run>[]).flatMap((result) => result.runs);
}

test('payload brings inputs of each size to the worker, whole', { timeout }, async () => {
  const runs = await measured<PayloadRun>('payload', '--tasks', '1', '--seconds', '1');
  expect(runs.map(({ bytes, tasks }) => [bytes, tasks])).toEqual([
    [1024, 1024],
    [65_536, 16],
    [1_048_576, 8],
  ]);
  for (const { mbPerSecond, rssBeforeMb, rssPeakMb } of runs) {
    expect(mbPerSecond).toBeGreaterThan(0);
    expect(rssPeakMb).toBeGreaterThanOrEqual(rssBeforeMb);
  }
});

test("overhead tells a worker's own CPU from that of its tasks and of its heartbeat", { timeout }, async () => {
  const [run] = await measured<OverheadRun>('overhead', '--tasks', '10', '--seconds', '1');
  expect(run).toMatchObject({ tasks: 10, taskMs: 100 });
  expect(run!.protocolPercent).toBeLessThan(100);
  expect(run!.heartbeatPercent).toBeGreaterThanOrEqual(0);
  expect(run!.heartbeatPercent + run!.protocolPercent).toBeLessThan(100);
  // The tasks' own time is in the worker's.
  expect(run!.cpu.workerUs).toBeGreaterThan(100_000 * 0.9);
});
