/** Artifacts that one task is handed, or produces. */
export const MAX_ARTIFACTS = 1_000;
const MAX_LENGTH = 200;

/**
 * Why a name is not one of an artifact; null: it is one. Names are those of files: up to 200 characters, parts separated by `/`, none of
 * them empty, `.` or `..`, without control characters and backslashes. A directory can then be laid out by them anywhere.
 */
export function artifactNameProblem(name: string): string | null {
  if (name === '') return 'must not be empty';
  if (name.length > MAX_LENGTH) return `must have at most ${MAX_LENGTH} characters`;
  if (/[\u0000-\u001f\u007f\\\ud800-\udfff]/.test(name.replace(/[\ud800-\udbff][\udc00-\udfff]/g, '')))
    return 'must not contain control characters, backslashes or lone surrogates';
  if (name.split('/').some((part) => part === '' || part === '.' || part === '..'))
    return 'must be the name of a file: parts separated by /, none of them empty, . or ..';
  return null;
}

/** What names an artifact in outputs and inputs, as `ctx.artifacts.put` gives it. */
export interface ArtifactValue {
  readonly __baton: 'artifact';
  readonly name: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

const SHA256 = /^[0-9a-f]{64}$/;

/** Whether a value names an artifact (by its shape). */
export function isArtifactValue(value: unknown): value is ArtifactValue {
  if (typeof value !== 'object' || value === null) return false;
  const { __baton, sha256, sizeBytes } = value as Partial<ArtifactValue>;
  return (
    __baton === 'artifact' &&
    typeof sha256 === 'string' &&
    SHA256.test(sha256) &&
    typeof sizeBytes === 'number' &&
    Number.isSafeInteger(sizeBytes) &&
    sizeBytes >= 0
  );
}
