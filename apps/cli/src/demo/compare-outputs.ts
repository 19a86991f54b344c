import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OUTPUT_FILES } from './energy.ts';

export interface FileComparison {
  readonly file: string;
  readonly equal: boolean;
  /** SHA-256 in each directory; null: it is not there. */
  readonly hashes: readonly [string | null, string | null];
}

/** Every file of a run against the same file of another run, byte by byte. */
export async function compareOutputs(one: string, other: string): Promise<FileComparison[]> {
  return Promise.all(
    OUTPUT_FILES.map(async (file) => {
      const [a, b] = await Promise.all([contentOf(join(one, file)), contentOf(join(other, file))]);
      return {
        file,
        equal: a !== undefined && b !== undefined && a.equals(b),
        hashes: [hashOf(a), hashOf(b)] as const,
      };
    }),
  );
}

function contentOf(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch(() => undefined);
}

function hashOf(content: Buffer | undefined): string | null {
  return content === undefined ? null : createHash('sha256').update(content).digest('hex');
}
