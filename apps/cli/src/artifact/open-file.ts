import { openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import { usageError } from '../exit.ts';

/** A file of any size, read as it is needed. Throws a usage failure for what is none. */
export async function openFile(path: string): Promise<Blob> {
  let why: string;
  try {
    if ((await stat(path)).isFile()) return await openAsBlob(path);
    why = 'it is no plain file; pack a directory (tar)';
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  throw usageError(`${path} cannot be read: ${why}`);
}
