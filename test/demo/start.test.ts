import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Home, type Running } from './process.ts';

const BANNER = /Try:\n(?:.*\n){6}/;

/** The commands of the banner, as they stand there. */
async function tries(start: Running): Promise<string[]> {
  const [text] = await start.says(BANNER);
  return text
    .split('\n')
    .slice(1)
    .filter((line) => line.trim() !== '' && !line.startsWith('  #'))
    .map((line) => line.trim());
}

test('npm start: a run on the real data, three things to try, and the data is found again', {
  timeout: 120_000,
}, async () => {
  const home = new Home();
  const start = home.run('npm', ['start', '--', '--out', home.outputs]);
  const [first, second, third] = await tries(start);
  expect(start.text).toContain('found    a new database');
  expect(start.text).toContain('Renewables grew from 4% to 39% of Iowa’s electricity');
  expect(existsSync(join(home.outputs, 'iowa', 'final_report.svg'))).toBe(true);

  const submitted = JSON.parse((await home.shell(first!).ends()).stdout) as { taskId: string };
  const list = (await home.shell(second!).ends()).stdout;
  expect(list).toContain(submitted.taskId);
  expect(list).toContain('hello');
  expect((await home.shell(third!).ends()).stdout).toContain('energy-pipeline');
  // The role that looks may only look.
  const psqlUrl = /psql +(postgres:\S+)/.exec(start.text)![1]!;
  const { default: postgres } = await import('postgres');
  const sql = postgres(psqlUrl, { max: 1 });
  await expect(sql`delete from baton.tasks`).rejects.toThrow(/read-only|permission denied/);
  await sql.end();
  for (const address of ['health', 'metrics']) {
    const url = new RegExp(`${address} +(http\\S+)`).exec(start.text)![1]!;
    expect((await fetch(url)).status).toBe(200);
  }

  start.interrupt();
  await start.ended;
  await home.untilNothingRuns();

  const began = performance.now();
  const again = home.run('npm', ['start', '--', '--out', home.outputs]);
  await tries(again);
  process.stdout.write(`a warm start took ${Math.round(performance.now() - began)} ms\n`);
  expect(again.text).toContain('1 run and 4 tasks from before');
  again.interrupt();
  await again.ended;
  await home.untilNothingRuns();
});
