import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/reference/faults.md'), 'utf8');

/** The proof of each row: a file, and how the name of a test in it reads. */
const proofs = page
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .flatMap((line) => {
    const [, , , proof] = line.split('|').map((cell) => cell.trim());
    const [, file, name] = /^`([^`]+\.(?:test|suite)\.ts)`: (.+)$/.exec(proof ?? '') ?? [];
    return file && name ? [{ file, name }] : [];
  });

test('every row of the faults names a test, but for those that are said to be missing', () => {
  const [done] = page.split('## Not yet');
  const rows = done!.split('\n').filter((line) => /^\| (?!-|provoked)/.test(line));
  expect(rows.length).toBeGreaterThan(50);
  expect(proofs).toHaveLength(rows.length);
});

test.each(proofs)('$file has: $name', ({ file, name }) => {
  expect(existsSync(join(root, file)), file).toBe(true);
  const source = readFileSync(join(root, file), 'utf8');
  // As it stands in the source, where a name may be made of parts.
  expect(source.replaceAll("\\'", "'")).toContain(name);
});
