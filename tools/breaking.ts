/**
 * Compares the contract with the last one that was released, kept in proto/baseline: what would break a client or a
 * worker of that release fails.
 *
 *   node tools/breaking.ts            compares; exit code 1 and what breaks, by file and line
 *   node tools/breaking.ts --update   makes the contract as it is now the baseline (part of a release)
 *
 * While there is no baseline nothing is promised to anybody: it warns and exits 0.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { runTool } from './generate.ts';
import { repositoryRoot } from './workspace.ts';

/** The released contract as a buf image, without comments: relative to the root. */
export const BASELINE = 'proto/baseline/baton-v1.binpb';

/** What is promised; proto/third_party is the promise of others. */
const PROMISED = 'proto/baton';

/** FILE is the strictest category: a name that generated code has may not change either. */
const RULES = JSON.stringify({ version: 'v2', breaking: { use: ['FILE'] } });

/** Compares, or with `update` writes the baseline. Returns the exit code. */
export function checkBreaking(root: string, update: boolean, print: (line: string) => void): number {
  const buf = (...args: string[]): boolean => {
    const { code, output } = runTool(root, 'buf', args);
    if (output) print(output.trimEnd());
    return code === 0;
  };
  if (update) {
    mkdirSync(dirname(join(root, BASELINE)), { recursive: true });
    if (!buf('build', '--path', PROMISED, '--exclude-source-info', '-o', BASELINE)) return 1;
    print(`${BASELINE}: written`);
    return 0;
  }
  if (!existsSync(join(root, BASELINE))) {
    print(`no baseline: ${BASELINE} is missing, so nothing can be compared`);
    print('Fix: restore it from git; node tools/breaking.ts --update writes a new one at a release');
    return 1;
  }
  // buf compares a workspace module by module and an image as one, so the contract becomes an image first.
  const directory = mkdtempSync(join(tmpdir(), 'baton-breaking-'));
  try {
    const current = join(directory, 'current.binpb');
    if (!buf('build', '--path', PROMISED, '-o', current)) return 1;
    if (buf('breaking', current, '--against', BASELINE, '--exclude-imports', '--config', RULES)) {
      print('The contract breaks nothing of the last release');
      return 0;
    }
    print('Fix: add a new field beside the old one, mark the old one deprecated, and leave its name and number');
    return 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const [first, second] = process.argv.slice(2);
  const update = first === '--update' || second === '--update';
  const directory = [first, second].find((argument) => argument !== undefined && argument !== '--update');
  process.exitCode = checkBreaking(resolve(directory ?? repositoryRoot), update, (line) => console.log(line));
}
