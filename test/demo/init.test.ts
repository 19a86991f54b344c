import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Home, ROOT } from './process.ts';

test('init makes a project whose own scripts run its task', { timeout: 120_000 }, async () => {
  const home = new Home();
  const project = join(home.directory, 'my-project');
  const init = await home.baton('init', project).ends();
  expect(init.stderr).toContain('npm start');
  expect(readFileSync(join(project, 'tasks.ts'), 'utf8').split('\n').length).toBeLessThan(15);
  // What `npm install` would bring, as links to this repository.
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(join(ROOT, 'node_modules', '@baton'), join(project, 'node_modules', '@baton'));
  symlinkSync(join(ROOT, 'node_modules', '.bin'), join(project, 'node_modules', '.bin'));
  const start = home.run('npm', ['start'], {}, project);
  await start.says(/v_runs/);
  const hello = await home.run('npm', ['run', '--silent', 'hello'], {}, project).ends();
  expect(hello.stdout).toBe('Hello, Ada\n');
  start.interrupt();
  await start.ended;
  await home.untilNothingRuns();
});

test('init overwrites nothing, and names what it would', async () => {
  const home = new Home();
  const project = join(home.directory, 'p');
  await home.baton('init', project).ends();
  const again = await home.baton('init', project).ends(1);
  expect(again.stderr).toContain('package.json, tasks.ts, README.md');
  const missing = await home.baton('init', join(home.directory, 'q'), '--packages', home.directory).ends(3);
  expect(missing.stderr).toContain('tools/pack.ts client');
});
