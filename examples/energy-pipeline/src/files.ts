import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { StepError } from './step.ts';

/** The largest file a step reads, in bytes. All of it is held in memory. */
export const MAX_INPUT_BYTES = 64 * 1024 * 1024;

export interface InputFile {
  readonly path: string;
  readonly text: string;
  /** SHA-256 of the bytes, in hex. */
  readonly sha256: string;
}

/** The reason the system gave, without the path that Node repeats in its message. */
function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  switch (code) {
    case 'ENOENT':
      return 'no such file';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a directory';
    case 'ENOTDIR':
    case 'EEXIST':
      return 'a part of its path is a file, not a directory';
    case 'ENOSPC':
      return 'no space left on the device';
    case 'ENAMETOOLONG':
      return 'the name is too long';
    default:
      return code ?? (error instanceof Error ? error.message : String(error));
  }
}

/** Reads a whole UTF-8 file. Every failure is a `StepError` that names the file and the reason. */
export async function readInput(path: string): Promise<InputFile> {
  if (path === '') throw new StepError('input_file is empty: this step needs one');
  let bytes: Buffer;
  try {
    const { size } = await stat(path);
    if (size > MAX_INPUT_BYTES) {
      throw new StepError(`input file "${path}" has ${size} bytes; the limit is ${MAX_INPUT_BYTES}`);
    }
    bytes = await readFile(path);
  } catch (error) {
    if (error instanceof StepError) throw error;
    throw new StepError(`cannot read input file "${path}": ${reasonOf(error)}`);
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new StepError(`input file "${path}" is not UTF-8 text`);
  }
  return { path, text, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** Refuses an output that would overwrite what is being read. */
export function checkOutput(inputFile: string, outputFiles: readonly string[]): void {
  if (outputFiles.some((path) => path === '')) throw new StepError('output_file is empty: where should it go?');
  const clash = inputFile === '' ? undefined : outputFiles.find((path) => resolve(path) === resolve(inputFile));
  if (clash !== undefined) throw new StepError(`output file "${clash}" is the input file: it would be overwritten`);
}

/**
 * Writes `text` so that a reader sees the old file or the whole new one, also after a crash: a temporary file in the
 * same directory, fsync, rename, fsync of the directory. Missing parent directories are made.
 */
export async function writeAtomically(path: string, text: string): Promise<void> {
  const directory = dirname(resolve(path));
  const temporary = join(directory, `.tmp-${randomBytes(8).toString('hex')}`);
  try {
    await mkdir(directory, { recursive: true });
    const file = await open(temporary, 'wx', 0o644);
    try {
      await file.writeFile(text, 'utf8');
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const parent = await open(directory, 'r');
    try {
      await parent.sync();
    } finally {
      await parent.close();
    }
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new StepError(`cannot write output file "${path}": ${reasonOf(error)}`);
  }
}
