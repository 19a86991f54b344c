import { readFileSync } from 'node:fs';
import { createBaton } from '@baton/client';
import { expect, test } from 'vitest';
import { Home } from './process.ts';

test('npm run demo prints one object about a run on the real data, and ends', { timeout: 120_000 }, async () => {
  const home = new Home();
  const demo = await home.run('npm', ['run', '--silent', 'demo', '--', '-o', 'json', '--out', home.outputs]).ends();
  const report = JSON.parse(demo.stdout);
  expect(report).toMatchObject({
    run_id: expect.stringMatching(/^\d+$/),
    state: 'succeeded',
    nodes: ['energy-generator', 'energy-analyzer', 'report-generator'].map((id) => ({
      id,
      state: 'succeeded',
      attempts: 1,
      seconds: expect.any(Number),
      worker: expect.stringMatching(/^worker-[12]$/),
    })),
    figures: { rows: { read: 51, used: 51, skipped: 0 } },
  });
  expect(readFileSync(report.outputs.csv, 'utf8').split('\n')[0]).toContain('share_pct');
  expect(readFileSync(report.outputs.chart, 'utf8')).toContain('<svg');
  expect(JSON.parse(readFileSync(report.outputs.summary, 'utf8')).finding).toBe(report.figures.finding);
  await home.untilNothingRuns(1_000);
});

test('a demo that is interrupted, or whose run fails, says so by its exit code and leaves nothing', {
  timeout: 120_000,
}, async () => {
  const home = new Home();
  const demo = home.run('node', ['apps/cli/src/demo/main.ts', 'run', '--out', home.outputs]);
  await demo.says(/Baton is up/);
  demo.interrupt();
  await demo.ends(1);
  await home.untilNothingRuns();

  // The output of the first node cannot be written: a file stands where a directory should be. It is tried again, so
  // somebody gives up.
  const failing = home.run('node', ['apps/cli/src/demo/main.ts', 'run', '-o', 'json', '--out', 'package.json']);
  const [, url] = await failing.says(/Baton is up at (http:\S+)/);
  const [, id] = await failing.says(/run (\d+) energy-pipeline running/);
  await createBaton({ url }).runs.cancel(id!, 'enough');
  await failing.ends(1);
  expect(JSON.parse(failing.stdout)).toMatchObject({ run_id: id, state: 'cancelled', outputs: null, figures: null });
  await home.untilNothingRuns(1_000);
});

test('--crash: a worker is killed with the call in flight, and nothing is lost', { timeout: 120_000 }, async () => {
  const home = new Home();
  const demo = home.run('npm', ['run', '--silent', 'demo', '--', '--crash', '-o', 'json', '--out', home.outputs]);
  const report = JSON.parse((await demo.ends()).stdout);
  expect(report.ok).toBe(true);
  expect(report.verdicts.map(({ holds }: { holds: boolean }) => holds)).toEqual([true, true, true, true]);
  const [lost, done] = report.attempts;
  expect(lost).toMatchObject({ state: 'lost', worker: report.killed.worker, epoch: report.killed.epoch });
  expect(done.state).toBe('succeeded');
  expect(done.worker).not.toBe(lost.worker);
  expect(done.epoch).toBeGreaterThan(lost.epoch);
  expect(report.outputs.files).toHaveLength(5);
  expect(demo.stderr).toMatch(/kill -9 \d+: worker-\d held the lease of energy-analyzer .*in flight/);
  await home.untilNothingRuns(1_000);
});
