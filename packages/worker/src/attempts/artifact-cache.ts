import { createHash, randomUUID } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { copyFile, link, mkdir, open, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Logger } from '@baton/telemetry';
import { ArtifactError } from '../errors.ts';

export interface ArtifactCacheOptions {
  /** Made when it is not there. Several processes of one machine may share it. */
  readonly directory: string;
  /** What has not been used for longest goes above this. What a running task uses does not count. */
  readonly maxBytes: number;
  readonly log: Logger;
  /** Writes at a place in a file. Replaced by tests of full disks. */
  readonly write?: (file: FileHandle, data: Uint8Array, offset: number) => Promise<void>;
}

/** Brings the bytes of a file from `from` on, in order. Rejects when they do not come. */
export type FetchBytes = (from: number, take: (data: Uint8Array) => Promise<void>) => Promise<void>;

/** What the cache did since the process began. */
export interface CacheStats {
  /** Files that were there and sound. */
  hits: number;
  /** Files that were fetched, and the bytes that came for them. */
  fetches: number;
  fetchedBytes: number;
  /** Files that were there and not what they should be. */
  damaged: number;
}

const bufferBytes = 1024 * 1024;
/** The whole directory is looked through at most so often. */
const scanEveryMs = 10_000;
const dayMs = 86_400_000;
const SHA256 = /^[0-9a-f]{64}$/;

/**
 * Files by their SHA-256, in a directory that several processes may share and that outlives them. A file takes its name when it is whole;
 * a file is hashed before this process uses it for the first time, and again when it has changed since. Whoever uses one gets a link
 * of its own: what goes from the cache stays with those who have it.
 */
export class ArtifactCache {
  readonly directory: string;
  readonly stats: CacheStats = { hits: 0, fetches: 0, fetchedBytes: 0, damaged: 0 };
  readonly #maxBytes: number;
  readonly #log: Logger;
  readonly #write: NonNullable<ArtifactCacheOptions['write']>;
  /** What each file looked like when this process hashed it. */
  readonly #sound = new Map<string, string>();
  readonly #fetching = new Map<string, Promise<void>>();
  #prepared: Promise<void> | undefined;
  #bytes = 0;
  #scannedAt = Number.NEGATIVE_INFINITY;

  constructor({ directory, maxBytes, log, write = writeAll }: ArtifactCacheOptions) {
    this.directory = resolve(directory, 'artifacts');
    this.#maxBytes = maxBytes;
    this.#log = log;
    this.#write = write;
  }

  /** A directory for one attempt, on the same disk as the cache. Whoever asked removes it. */
  async directoryFor(name: string): Promise<string> {
    await this.#prepare();
    const path = join(this.directory, 'attempts', `${process.pid}-${name}-${randomUUID().slice(0, 8)}`);
    await mkdir(path, { recursive: true, mode: 0o700 });
    return path;
  }

  /**
   * Puts a file at `target`, for reading: from the cache, or fetched, and verified in any case. Those who want the same file at once share
   * one fetch. @throws ArtifactError, and what `fetch` rejects with
   */
  async place(sha256: string, sizeBytes: number, target: string, fetch: FetchBytes): Promise<void> {
    if (!SHA256.test(sha256)) throw new ArtifactError('INVALID_REQUEST', `${JSON.stringify(sha256)} is not a SHA-256`);
    await this.#prepare();
    const file = this.#fileOf(sha256);
    for (let tries = 1; ; tries++) {
      // Another attempt fetches it. Where that one is stopped, this one goes on from what has come.
      for (let other = this.#fetching.get(sha256); other; other = this.#fetching.get(sha256))
        await other.catch(() => {});
      if (await this.#isSound(file, sha256, sizeBytes)) this.stats.hits++;
      else if (this.#fetching.has(sha256)) continue;
      else await this.#alone(sha256, () => this.#fetch(file, sha256, sizeBytes, fetch));
      try {
        await this.#give(file, target);
        await this.#touch(file);
        await this.#makeRoom(0);
        return;
      } catch (error) {
        // It went to make room for others, between two looks.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries >= 5)
          throw this.#diskError(error, file, sizeBytes);
      }
    }
  }

  /**
   * Takes bytes in, so that what is produced here is at hand here, and puts them at `target`, which goes on being what they were.
   * @throws ArtifactError DISK_FULL
   */
  async take(source: AsyncIterable<Uint8Array>, target: string): Promise<{ sha256: string; sizeBytes: number }> {
    await this.#prepare();
    const part = join(this.directory, 'tmp', `new.${process.pid}-${randomUUID()}.part`);
    const hash = createHash('sha256');
    let sizeBytes = 0;
    const handle = await open(part, 'wx', 0o600).catch((error) => {
      throw this.#diskError(error, part, 0);
    });
    try {
      for await (const data of source) {
        hash.update(data);
        await this.#writeOrMakeRoom(handle, data, sizeBytes, part);
        sizeBytes += data.length;
      }
      await handle.chmod(0o444);
    } catch (error) {
      await handle.close();
      await rm(part, { force: true });
      throw error;
    }
    await handle.close();
    const sha256 = hash.digest('hex');
    const file = this.#fileOf(sha256);
    await mkdir(dirname(target), { recursive: true });
    await link(part, target);
    await this.#name(part, file, sha256, sizeBytes);
    await this.#makeRoom(sizeBytes);
    return { sha256, sizeBytes };
  }

  /** Forgets what other processes left behind when they died, and begins to count. */
  #prepare(): Promise<void> {
    this.#prepared ??= (async () => {
      try {
        for (const name of ['tmp', 'attempts', 'files']) {
          await mkdir(join(this.directory, name), { recursive: true, mode: 0o700 });
        }
      } catch (error) {
        this.#prepared = undefined;
        throw this.#diskError(error, this.directory, 0);
      }
      for (const name of await readdir(join(this.directory, 'attempts'))) {
        if (!isAlive(Number(name.split('-', 1)[0]))) {
          await rm(join(this.directory, 'attempts', name), { recursive: true, force: true }).catch(() => {});
        }
      }
      for (const name of await readdir(join(this.directory, 'tmp'))) {
        const path = join(this.directory, 'tmp', name);
        const about = await stat(path).catch(() => undefined);
        const isOld = about !== undefined && Date.now() - about.mtimeMs > dayMs;
        // A part of something known is gone on with; what was being produced is nothing without its producer.
        if (isOld || (name.startsWith('new.') && !isAlive(ownerOf(name)))) {
          await rm(path, { force: true });
        }
      }
    })();
    return this.#prepared;
  }

  #fileOf(sha256: string): string {
    return join(this.directory, 'files', sha256.slice(0, 2), sha256);
  }

  #alone(sha256: string, fetch: () => Promise<void>): Promise<void> {
    const begun = fetch().finally(() => this.#fetching.delete(sha256));
    this.#fetching.set(sha256, begun);
    return begun;
  }

  /** Whether the file is there and is what it should be; one that is not goes. */
  async #isSound(file: string, sha256: string, sizeBytes: number): Promise<boolean> {
    const before = await lookOf(file);
    if (before === undefined) return false;
    if (before === this.#sound.get(sha256)) return true;
    const found = await hashOf(file).catch(() => undefined);
    if (found?.sha256 === sha256 && found.sizeBytes === sizeBytes) {
      this.#sound.set(sha256, before);
      return true;
    }
    if (found !== undefined) {
      this.stats.damaged++;
      this.#log.warn('damaged file in the cache', { sha256, bytes: found.sizeBytes, expected_bytes: sizeBytes });
    }
    await rm(file, { force: true });
    return false;
  }

  async #fetch(file: string, sha256: string, sizeBytes: number, fetch: FetchBytes): Promise<void> {
    await this.#makeRoom(sizeBytes);
    const { part, handle } = await this.#openPart(sha256, sizeBytes);
    try {
      let { hash, length } = await continued(handle, sizeBytes);
      const resumed = length;
      for (let tries = 1; ; tries++) {
        if (length < sizeBytes) {
          await fetch(length, async (data) => {
            if (length + data.length > sizeBytes)
              throw new ArtifactError('ARTIFACT_CORRUPT', `more than the ${sizeBytes} bytes of ${sha256} came`);
            hash.update(data);
            await this.#writeOrMakeRoom(handle, data, length, part);
            length += data.length;
            this.stats.fetchedBytes += data.length;
          });
        }
        const actual = hash.digest('hex');
        if (actual === sha256) break;
        // What an earlier process left may have been damaged: all of it once more.
        if (resumed === 0 || tries > 1)
          throw new ArtifactError(
            'ARTIFACT_CORRUPT',
            `the ${length} bytes that came for ${sha256} have the SHA-256 ${actual}`,
          );
        await handle.truncate(0);
        hash = createHash('sha256');
        length = 0;
      }
      await handle.chmod(0o444);
    } catch (error) {
      await handle.close();
      // What has come is gone on with by whoever is next, unless there is no room for it, or it is wrong.
      if (error instanceof ArtifactError) await rm(part, { force: true });
      throw error;
    }
    await handle.close();
    this.stats.fetches++;
    await this.#name(part, file, sha256, sizeBytes);
  }

  /** A part that belongs to this process: one that a dead one left, or a new one. */
  async #openPart(sha256: string, sizeBytes: number): Promise<{ part: string; handle: FileHandle }> {
    const tmp = join(this.directory, 'tmp');
    const part = join(tmp, `${sha256}.${process.pid}-${randomUUID()}.part`);
    try {
      for (const name of await readdir(tmp)) {
        if (!name.startsWith(`${sha256}.`) || (isAlive(ownerOf(name)) && ownerOf(name) !== process.pid)) continue;
        // Nobody fetches it in this process now; of several only one can take it.
        const taken = await rename(join(tmp, name), part).then(
          () => true,
          () => false,
        );
        if (taken) return { part, handle: await open(part, 'r+') };
      }
      return { part, handle: await open(part, 'wx+', 0o600) };
    } catch (error) {
      throw this.#diskError(error, part, sizeBytes);
    }
  }

  async #name(part: string, file: string, sha256: string, sizeBytes: number): Promise<void> {
    try {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      await rename(part, file);
      const look = await lookOf(file);
      if (look !== undefined) this.#sound.set(sha256, look);
      await this.#touch(file);
      this.#bytes += sizeBytes;
    } catch (error) {
      throw this.#diskError(error, file, sizeBytes);
    }
  }

  /** A second name of the same file; a copy where the target is on another disk. */
  async #give(file: string, target: string): Promise<void> {
    await mkdir(dirname(target), { recursive: true });
    try {
      await link(file, target);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return;
      if (code !== 'EXDEV' && code !== 'EPERM' && code !== 'EMLINK') throw error;
      await copyFile(file, target);
    }
  }

  /** When it was last used stands beside it: the file itself must look as it did when it was hashed. */
  async #touch(file: string): Promise<void> {
    const now = new Date();
    await utimes(`${file}.used`, now, now).catch(() => writeFile(`${file}.used`, '').catch(() => {}));
  }

  async #writeOrMakeRoom(handle: FileHandle, data: Uint8Array, offset: number, path: string): Promise<void> {
    try {
      await this.#write(handle, data, offset);
    } catch (error) {
      if (!isFull(error)) throw this.#diskError(error, path, offset + data.length);
      await this.#evict(0);
      await this.#write(handle, data, offset).catch((again) => {
        throw this.#diskError(again, path, offset + data.length);
      });
    }
  }

  async #makeRoom(forBytes: number): Promise<void> {
    if (this.#bytes + forBytes <= this.#maxBytes && Date.now() - this.#scannedAt < scanEveryMs) return;
    if (forBytes === 0 && this.#bytes <= this.#maxBytes) return;
    await this.#evict(Math.max(0, this.#maxBytes - forBytes));
  }

  /** Lets go of what has not been used for longest, until at most so many bytes are left. */
  async #evict(downToBytes: number): Promise<void> {
    const files: { path: string; bytes: number; usedAtMs: number }[] = [];
    const root = join(this.directory, 'files');
    let total = 0;
    for (const folder of await readdir(root).catch(() => [])) {
      for (const name of await readdir(join(root, folder)).catch(() => [])) {
        if (!SHA256.test(name)) continue;
        const path = join(root, folder, name);
        const [about, used] = await Promise.all(
          [stat(path), stat(`${path}.used`)].map((s) => s.catch(() => undefined)),
        );
        if (about === undefined) continue;
        total += about.size;
        files.push({ path, bytes: about.size, usedAtMs: (used ?? about).mtimeMs });
      }
    }
    files.sort((a, b) => a.usedAtMs - b.usedAtMs);
    let evicted = 0;
    for (const { path, bytes } of files) {
      if (total <= downToBytes) break;
      await rm(path, { force: true });
      await rm(`${path}.used`, { force: true });
      total -= bytes;
      evicted++;
    }
    if (evicted > 0) this.#log.debug('files let go from the cache', { files: evicted, bytes_left: total });
    this.#bytes = total;
    this.#scannedAt = Date.now();
  }

  #diskError(error: unknown, path: string, sizeBytes: number): unknown {
    if (error instanceof ArtifactError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) return error;
    if (isFull(error))
      return new ArtifactError(
        'DISK_FULL',
        `there is no room for a file of ${sizeBytes} bytes or more in ${this.directory}: make room, or set BATON_CACHE_DIR to a larger disk`,
        { cause: error },
      );
    return new ArtifactError('CACHE_UNUSABLE', `${path} cannot be used: ${message}`, { cause: error });
  }
}

/** A file in pieces. @throws as the file system does */
export async function* bytesOfFile(path: string): AsyncGenerator<Uint8Array> {
  const handle = await open(path, 'r');
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafe(bufferBytes);
      const { bytesRead } = await handle.read(buffer, 0, bufferBytes);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

async function hashOf(path: string): Promise<{ sha256: string; sizeBytes: number }> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const data of bytesOfFile(path)) {
    hash.update(data);
    sizeBytes += data.length;
  }
  return { sha256: hash.digest('hex'), sizeBytes };
}

/** What is in a part already. */
async function continued(handle: FileHandle, sizeBytes: number) {
  const { size } = await handle.stat();
  let hash = createHash('sha256');
  let length = 0;
  if (size > sizeBytes) {
    await handle.truncate(0);
    return { hash, length };
  }
  const buffer = Buffer.allocUnsafe(bufferBytes);
  while (length < size) {
    const { bytesRead } = await handle.read(buffer, 0, bufferBytes, length);
    if (bytesRead === 0) break;
    hash = hash.update(buffer.subarray(0, bytesRead));
    length += bytesRead;
  }
  return { hash, length };
}

async function writeAll(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < data.length; ) {
    at += (await file.write(data, at, data.length - at, offset + at)).bytesWritten;
  }
}

/** What changes when a file does. */
async function lookOf(path: string): Promise<string | undefined> {
  const about = await stat(path, { bigint: true }).catch(() => undefined);
  return about === undefined ? undefined : `${about.ino} ${about.size} ${about.mtimeNs}`;
}

/** `NAME.PID-UUID.part` */
function ownerOf(name: string): number {
  return Number(name.split('.')[1]?.split('-', 1)[0]);
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes((error as NodeJS.ErrnoException).code ?? '');
}
