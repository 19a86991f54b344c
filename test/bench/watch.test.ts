import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import type { Report } from './report.ts';
import type { Result } from './result.ts';
import type { WatchRun } from './watch.ts';

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

test('watch has each watcher hear of every event exactly once, and says how late and what the master keeps', {
  timeout,
}, async () => {
  const report = await measured('watch', '--workers', '12', '--seconds', '1', '--rate', '20');
  const runs = (report.results as Result<WatchRun>[]).flatMap((result) => result.runs);
  expect(runs.map(({ watchers, connections, rate }) => [watchers, connections, rate])).toEqual([[12, 10, 20]]);
  for (const { watchers, tasks, eventsOfEach, delayMs, rssMb, masterPercent } of runs) {
    expect(eventsOfEach).toBe(tasks * 3);
    // Those of the time that was measured, of all watchers: some came before it.
    expect(delayMs.samples).toBeGreaterThan(0);
    expect(delayMs.samples).toBeLessThanOrEqual(eventsOfEach * watchers);
    expect(delayMs.max).toBeGreaterThanOrEqual(delayMs.p50);
    expect(rssMb.peak).toBeGreaterThanOrEqual(rssMb.before);
    expect(rssMb.before).toBeGreaterThan(10);
    expect(masterPercent).toBeGreaterThan(0);
  }
});
