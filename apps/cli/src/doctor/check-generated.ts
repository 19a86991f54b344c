import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Finding, ok, problem, skipped } from './finding.ts';

/** What is used of tools/generate.ts, which stands in the repository and does not ship. */
interface Generator {
  generate(root: string, check: boolean, print: (line: string) => void): number;
}

/** Whether the generated code is what the protos give. @param root of the repository; undefined: we are outside of it */
export async function checkGenerated(root: string | undefined): Promise<Finding> {
  if (root === undefined) return skipped('generated code', 'only in a clone of the repository');
  const { generate } = (await import(pathToFileURL(join(root, 'tools', 'generate.ts')).href)) as Generator;
  const lines: string[] = [];
  const code = generate(root, true, (line) => lines.push(line));
  if (code === 0) return ok('generated code', lines.join('; '));
  return problem('generated code', lines.slice(0, 5).join('; '), 'npm run generate');
}
