import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import type { CrowdRun } from './crowd.ts';
import type { Report } from './report.ts';
import type { Result } from './result.ts';
import type { ScaleRun } from './scale.ts';

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

test('workers connects so many pretended ones, hears all their heartbeats, and finds none dead', {
  timeout,
}, async () => {
  const report = await measured('workers', '--workers', '3,30', '--seconds', '11');
  const runs = (report.results as Result<CrowdRun>[]).flatMap((result) => result.runs);
  expect(runs.map(({ workers, dead, failures }) => ({ workers, dead, failures }))).toEqual([
    { workers: 3, dead: 0, failures: 0 },
    { workers: 30, dead: 0, failures: 0 },
  ]);
  for (const { workers, heartbeats, heartbeatMs, masterRssMb, masterPercent } of runs) {
    // Each beats every 10 s: once or twice in this time.
    expect(heartbeats).toBeGreaterThanOrEqual(workers);
    expect(heartbeats).toBeLessThanOrEqual(2 * workers);
    expect(heartbeatMs.p50).toBeGreaterThan(0);
    expect(masterRssMb).toBeGreaterThan(10);
    expect(masterPercent).toBeGreaterThan(0);
  }
});

test('scale has every task done once, and no slot busier than it can be', { timeout }, async () => {
  const report = await measured('scale', '--tasks', '20', '--workers', '1,2');
  const runs = (report.results as Result<ScaleRun>[]).flatMap((result) => result.runs);
  expect(runs.map(({ workers, tasks }) => [workers, tasks])).toEqual([
    [1, 20],
    [2, 40],
  ]);
  for (const { efficiencyPercent } of runs) {
    expect(efficiencyPercent).toBeGreaterThan(0);
    expect(efficiencyPercent).toBeLessThanOrEqual(100);
  }
});
