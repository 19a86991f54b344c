import { describe, expect, test } from 'vitest';
import { artifactNameProblem, isArtifactValue } from './artifact-name.ts';

describe('names of artifacts', () => {
  test.each(['report.csv', 'parts/0', 'a b', 'größe.txt', '.hidden', 'a..b', '😀', 'x'.repeat(200)])(
    '%j is one',
    (name) => expect(artifactNameProblem(name)).toBeNull(),
  );

  test.each([
    '',
    '/etc/passwd',
    '../x',
    'a/../b',
    'a//b',
    'a/',
    '.',
    '..',
    'a\\b',
    'a\u0000b',
    'a\nb',
    '\ud800',
    'x'.repeat(201),
  ])('%j is none', (name) => expect(artifactNameProblem(name)).not.toBeNull());
});

describe('what names an artifact', () => {
  const value = { __baton: 'artifact', name: 'a', sha256: 'ab'.repeat(32), sizeBytes: 3 };

  test('is known by its shape', () => expect(isArtifactValue(value)).toBe(true));

  test.each([
    null,
    'x',
    { ...value, __baton: 'blob' },
    { ...value, sha256: 'AB'.repeat(32) },
    { ...value, sizeBytes: -1 },
    { ...value, sizeBytes: '3' },
  ])('%j is none', (other) => expect(isArtifactValue(other)).toBe(false));
});
