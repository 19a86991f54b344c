import { constants, mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { isAbsolute, join, resolve, sep } from 'node:path';

const OWN_DIRECTORIES = ['work', 'tmp', 'in', 'out'];
const SMALL_BYTES = 64 * 1024;

/** A path that a task names is not one of its own files, or is not to be read. */
export class TaskFileError extends Error {
  override readonly name = 'TaskFileError';
}

const pieceBytes = 1024 * 1024;
/** Of names below a directory; none is that of a file that can be kept. */
const maxNameLength = 4_096;

export interface TaskFilesOptions {
  /** The directory as the program sees it, where that is another path, as in a container. */
  readonly seenAs?: string;
  /** Where the program finds the artifacts that it is handed. Default: in `in`, which is empty. */
  readonly artifacts?: string;
}

/** The directory of one attempt: private to the worker's user, and gone with the attempt. */
export class TaskFiles {
  readonly directory: string;
  /** As the program sees it. */
  readonly seenAs: string;
  /** The directory of what the attempt is handed, as the program sees it. */
  readonly artifactsIn: string;

  private constructor(directory: string, { seenAs = directory, artifacts }: TaskFilesOptions) {
    this.directory = directory;
    this.seenAs = seenAs;
    this.artifactsIn = artifacts ?? this.seen('in');
  }

  /**
   * Makes `input` (the input's bytes), `work`, `tmp`, `in` and `out` (of artifacts) in a new directory below `root`, whose name begins
   * with `prefix`.
   */
  static async make(
    root: string,
    prefix: string,
    input: Uint8Array,
    options: TaskFilesOptions = {},
  ): Promise<TaskFiles> {
    // Some tenths of a millisecond together; each of them through the pool of threads takes several times that, and a warm program waits.
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const directory = realpathSync.native(mkdtempSync(join(root, prefix)));
    const files = new TaskFiles(directory, options);
    for (const name of OWN_DIRECTORIES) mkdirSync(join(directory, name), { mode: 0o700 });
    const path = join(directory, 'input');
    if (input.length <= SMALL_BYTES) writeFileSync(path, input, { mode: 0o600 });
    else await writeFile(path, input, { mode: 0o600 });
    return files;
  }

  /** What the program is told of one of them. */
  seen(name: string): string {
    return `${this.seenAs}/${name}`;
  }

  /** What the program is told of an artifact that it is handed. */
  seenArtifact(name: string): string {
    return `${this.artifactsIn}/${name}`;
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    await writeFile(join(this.directory, name), bytes, { mode: 0o600 });
  }

  /**
   * The bytes of a file that the program names: relative to the directory, or by the path that it sees. Nothing outside of the directory
   * is read, neither by `..` nor by a link. Throws `TaskFileError`.
   */
  async read(named: string, maxBytes: number): Promise<Uint8Array> {
    const { file, sizeBytes } = await this.#open(named);
    try {
      if (sizeBytes > maxBytes) {
        throw new TaskFileError(`${JSON.stringify(named)} has ${sizeBytes} bytes; at most ${maxBytes} are taken`);
      }
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  /** As `read`, in pieces, of any size: what the file had when its reading began. Opened with the first piece. */
  async *pieces(named: string): AsyncGenerator<Uint8Array> {
    const { file, sizeBytes } = await this.#open(named);
    try {
      for (let at = 0; at < sizeBytes; ) {
        const buffer = Buffer.allocUnsafe(Math.min(pieceBytes, sizeBytes - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) {
          throw new TaskFileError(`${JSON.stringify(named)} became shorter while it was read`);
        }
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
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

  /**
   * Names of all below one of its directories that is no directory, with `/`; links are not followed. None where the directory is gone.
   * Throws `TaskFileError` where there are more than `most`.
   */
  async namesBelow(name: string, most: number): Promise<string[]> {
    const root = join(this.directory, name);
    const about = await lstat(root).catch(() => undefined);
    if (about === undefined) {
      return [];
    }
    if (!about.isDirectory()) {
      throw new TaskFileError(`${JSON.stringify(this.seen(name))} is no directory any more`);
    }
    const names: string[] = [];
    const directories = [''];
    for (let under = directories.pop(); under !== undefined; under = directories.pop()) {
      for (const entry of await readdir(join(root, under), { withFileTypes: true })) {
        const path = under + entry.name;
        if (path.length > maxNameLength) {
          throw new TaskFileError(`${JSON.stringify(this.seen(name))} has a name of ${path.length} characters in it`);
        }
        if (entry.isDirectory()) {
          directories.push(`${path}/`);
        } else if (names.push(path) > most) {
          throw new TaskFileError(`there are more than ${most} files in ${JSON.stringify(this.seen(name))}`);
        }
      }
    }
    return names.sort();
  }

  /** Never throws: what cannot be removed stays in a temporary directory. */
  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true, maxRetries: 3 }).catch(() => {});
  }

  /** A plain file of the directory, for reading. Whoever asks closes it. */
  async #open(named: string): Promise<{ file: FileHandle; sizeBytes: number }> {
    const path = this.#resolve(named);
    let real: string;
    try {
      real = await realpath(path);
    } catch {
      throw new TaskFileError(`there is no file ${JSON.stringify(named)} in the task's directory`);
    }
    this.#checkInside(real, named);
    // Never opened if it is something else: a pipe would be waited for, and to open a device may do something.
    const before = await stat(real).catch(() => undefined);
    if (before?.isFile() === false) {
      throw new TaskFileError(`${JSON.stringify(named)} is no plain file`);
    }
    let file: FileHandle;
    try {
      file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      throw new TaskFileError(`${JSON.stringify(named)} cannot be read: ${(error as Error).message}`);
    }
    try {
      const about = await file.stat();
      if (!about.isFile()) {
        throw new TaskFileError(`${JSON.stringify(named)} is no plain file`);
      }
      if (process.platform === 'linux') {
        // A directory on the way may have become a link since it was looked at.
        this.#checkInside(await readlink(`/proc/self/fd/${file.fd}`), named);
      }
      return { file, sizeBytes: about.size };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  #checkInside(real: string, named: string): void {
    if (!real.startsWith(this.directory + sep)) {
      throw new TaskFileError(`${JSON.stringify(named)} leads out of the task's directory`);
    }
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
