import { constants } from 'node:fs';
import { mkdir, mkdtemp, open, realpath, rm, writeFile } from 'node:fs/promises';
import { isAbsolute, join, resolve, sep } from 'node:path';

/** A path that a task names is not one of its own files, or is not to be read. */
export class TaskFileError extends Error {
  override readonly name = 'TaskFileError';
}

/** The directory of one attempt: private to the worker's user, and gone with the attempt. */
export class TaskFiles {
  readonly directory: string;
  /** As the program sees it, where that is another path, as in a container. */
  readonly seenAs: string;

  private constructor(directory: string, seenAs: string) {
    this.directory = directory;
    this.seenAs = seenAs;
  }

  /** Makes `input` (the input's bytes), `work` and `tmp` in a new directory below `root`, whose name begins with `prefix`. */
  static async make(root: string, prefix: string, input: Uint8Array, seenAs?: string): Promise<TaskFiles> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const directory = await realpath(await mkdtemp(join(root, prefix)));
    const files = new TaskFiles(directory, seenAs ?? directory);
    await Promise.all([
      writeFile(join(directory, 'input'), input, { mode: 0o600 }),
      mkdir(join(directory, 'work'), { mode: 0o700 }),
      mkdir(join(directory, 'tmp'), { mode: 0o700 }),
    ]);
    return files;
  }

  /** What the program is told of one of them. */
  seen(name: string): string {
    return `${this.seenAs}/${name}`;
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    await writeFile(join(this.directory, name), bytes, { mode: 0o600 });
  }

  /**
   * The bytes of a file that the program names: relative to the directory, or by the path that it sees. Nothing outside of the directory
   * is read, neither by `..` nor by a link. Throws `TaskFileError`.
   */
  async read(named: string, maxBytes: number): Promise<Uint8Array> {
    const path = this.#resolve(named);
    let real: string;
    try {
      real = await realpath(path);
    } catch {
      throw new TaskFileError(`there is no file ${JSON.stringify(named)} in the task's directory`);
    }
    if (real !== path && !real.startsWith(this.directory + sep)) {
      throw new TaskFileError(`${JSON.stringify(named)} leads out of the task's directory`);
    }
    // Not followed once more, and never waited for, as a pipe would be.
    const file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) {
        throw new TaskFileError(`${JSON.stringify(named)} is no plain file`);
      }
      if (stat.size > maxBytes) {
        throw new TaskFileError(`${JSON.stringify(named)} has ${stat.size} bytes; at most ${maxBytes} are taken`);
      }
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  async exists(name: string): Promise<boolean> {
    try {
      await realpath(join(this.directory, name));
      return true;
    } catch {
      return false;
    }
  }

  /** Never throws: what cannot be removed stays in a temporary directory. */
  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true, maxRetries: 3 }).catch(() => {});
  }

  #resolve(named: string): string {
    if (named.includes('\0')) {
      throw new TaskFileError('a path with NUL');
    }
    const inside =
      isAbsolute(named) && (named === this.seenAs || named.startsWith(`${this.seenAs}/`))
        ? `.${named.slice(this.seenAs.length)}`
        : named;
    const path = resolve(this.directory, inside);
    if (!path.startsWith(this.directory + sep)) {
      throw new TaskFileError(`${JSON.stringify(named)} is outside of the task's directory`);
    }
    return path;
  }
}
