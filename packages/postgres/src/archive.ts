import { createHash, type Hash } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, mkdirSync, openSync, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import * as tar from 'tar-stream';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';

/**
 * The file format of a backup, version 1: a gzipped tar of
 *   baton-backup.json       the manifest
 *   data/…                  the data directory, directories before what is in them
 *   baton-backup-end.json   {files, bytes, sha256} over all that came before; without it the archive is not whole
 */
export const FORMAT_VERSION = 1;
export const MANIFEST_NAME = 'baton-backup.json';
export const END_NAME = 'baton-backup-end.json';

export interface BackupManifest {
  readonly format: number;
  readonly postgresMajor: number;
  /** RFC 3339. */
  readonly createdAt: string;
  /** hot: taken from a running server; cold: from a stopped one. */
  readonly mode: 'hot' | 'cold';
}

export interface ArchiveTotals {
  readonly files: number;
  /** Of the files' contents, before compression. */
  readonly bytes: number;
}

/** An entry being read, as tar-stream yields it; its types lack a name for it. */
type Entry = Readable & { readonly header: tar.Header };

/** Each chunk is a trip through the thread pool; at zlib's default of 16 KiB a restore takes twice as long. */
const CHUNK_BYTES = 256 * 1024;

/** Writes a backup's entries in order into one .tar.gz file, which is on the disk when `finish` has resolved. */
export class ArchiveWriter {
  readonly #pack = tar.pack();
  readonly #written: Promise<void>;
  readonly #digest = new Digest();

  constructor(file: string) {
    // Level 1: the data is read once and the disk is no faster; `flush` makes the close wait for fsync.
    const out = createWriteStream(file, { mode: 0o600, flags: 'wx', flush: true });
    this.#written = pipeline(this.#pack as unknown as Readable, createGzip({ level: 1, chunkSize: CHUNK_BYTES }), out);
    this.#written.catch(() => {}); // seen by whoever waits for it
  }

  async manifest(manifest: BackupManifest): Promise<void> {
    await this.#whole(MANIFEST_NAME, Buffer.from(`${JSON.stringify(manifest)}\n`));
  }

  async directory(name: string): Promise<void> {
    await this.#race(
      new Promise<void>((resolve, reject) => {
        this.#pack.entry({ name: `data/${name}`, type: 'directory', mode: 0o700 }, settle(resolve, reject));
      }),
    );
    this.#digest.entry(`data/${name}`);
  }

  async content(name: string, content: Buffer): Promise<void> {
    await this.#whole(`data/${name}`, content);
    this.#digest.file(`data/${name}`, content);
  }

  /**
   * Copies as many bytes as the file has now. A running server may grow it (what comes later is in the WAL) or cut it
   * (then zeros stand in, and the WAL tells of the cut).
   */
  async file(name: string, source: FileHandle): Promise<void> {
    const { size } = await source.stat();
    const digest = this.#digest;
    digest.entry(`data/${name}`);
    const taken = Promise.withResolvers<void>();
    const header = { name: `data/${name}`, size, mode: 0o600 };
    const sink: unknown = this.#pack.entry(header, settle(taken.resolve, taken.reject));
    const entry = sink as NodeJS.WritableStream; // its own types are wrong about end()
    for (let at = 0; at < size; ) {
      const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, size - at));
      await source.read(chunk, 0, chunk.length, at);
      digest.bytes(chunk);
      at += chunk.length;
      if (!entry.write(chunk)) await this.#race(new Promise<void>((resolve) => entry.once('drain', resolve)));
    }
    entry.end();
    await this.#race(taken.promise);
    digest.endOfFile();
  }

  /** Writes the closing entry and waits until everything is on the disk. */
  async finish(): Promise<ArchiveTotals> {
    await this.#whole(END_NAME, Buffer.from(`${JSON.stringify(this.#digest.totals())}\n`));
    this.#pack.finalize();
    await this.#written;
    const { files, bytes } = this.#digest.totals();
    return { files, bytes };
  }

  /** Gives up; the unfinished file is left to the caller. */
  async abort(): Promise<void> {
    this.#pack.destroy();
    await this.#written.catch(() => {});
  }

  async #whole(name: string, content: Buffer): Promise<void> {
    await this.#race(
      new Promise<void>((resolve, reject) => {
        this.#pack.entry({ name, mode: 0o600 }, content, settle(resolve, reject));
      }),
    );
  }

  /** A full disk ends the output, after which no entry would ever be taken. */
  async #race(entry: Promise<unknown>): Promise<void> {
    entry.catch(() => {});
    await Promise.race([entry, this.#written.then(() => entry)]);
  }
}

/**
 * Reads a backup, calling `onManifest` before anything else is touched, and writes its data under `into` (not synced).
 * @throws EmbeddedPostgresError BACKUP_INVALID when it is no backup, is cut short or has been changed.
 */
export async function extractArchive(
  file: string,
  into: string,
  onManifest: (manifest: BackupManifest) => void,
): Promise<ArchiveTotals> {
  try {
    return await extract(file, into, onManifest);
  } catch (error) {
    throw explain(file, error);
  }
}

async function extract(
  file: string,
  into: string,
  onManifest: (manifest: BackupManifest) => void,
): Promise<ArchiveTotals> {
  const digest = new Digest();
  let ended = false;
  let manifest: BackupManifest | undefined;
  for await (const entry of entriesOf(file)) {
    const { name, type } = entry.header;
    if (ended) throw invalid(file, `${name} follows its end`);
    if (manifest === undefined) {
      manifest = parseManifest(file, name, await buffer(entry));
      onManifest(manifest);
    } else if (name === END_NAME) {
      const stated = parseJson(file, await buffer(entry)) as Record<string, unknown>;
      const found = digest.totals();
      if (stated.sha256 !== found.sha256 || stated.files !== found.files || stated.bytes !== found.bytes) {
        throw invalid(file, 'its contents do not match its checksum');
      }
      ended = true;
    } else {
      const path = join(into, safePath(file, name));
      digest.entry(name.replace(/\/$/, ''));
      if (type === 'directory') {
        mkdirSync(path, { recursive: true, mode: 0o700 });
        entry.resume();
      } else if (type === 'file') {
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        // Synchronous, as each is small and there are many: through the thread pool it takes three times as long.
        const target = openSync(path, 'wx', 0o600);
        try {
          for await (const chunk of entry as AsyncIterable<Buffer>) {
            digest.bytes(chunk);
            for (let at = 0; at < chunk.length; ) at += writeSync(target, chunk, at);
          }
        } finally {
          closeSync(target);
        }
        digest.endOfFile();
      } else {
        throw invalid(file, `${name} is a ${type}`);
      }
    }
  }
  if (!ended) throw invalid(file, 'it is cut short');
  const { files, bytes } = digest.totals();
  return { files, bytes };
}

/** The manifest alone; the rest of the archive is not read. */
export async function readManifest(file: string): Promise<BackupManifest> {
  try {
    for await (const entry of entriesOf(file)) return parseManifest(file, entry.header.name, await buffer(entry));
  } catch (error) {
    throw error instanceof EmbeddedPostgresError ? error : invalid(file, (error as Error).message, error);
  }
  throw invalid(file, 'it is empty');
}

async function* entriesOf(file: string): AsyncGenerator<Entry> {
  const extract = tar.extract();
  const reading = pipeline(
    createReadStream(file),
    createGunzip({ chunkSize: CHUNK_BYTES }),
    extract as unknown as NodeJS.WritableStream,
  );
  reading.catch((error) => extract.destroy(error));
  try {
    for await (const entry of extract) yield entry as unknown as Entry;
    await reading;
  } finally {
    extract.destroy();
  }
}

/** What gunzip and tar say of a broken file; what the system says (a full disk) is not the archive's fault. */
function explain(file: string, error: unknown): unknown {
  if (error instanceof EmbeddedPostgresError) return error;
  const code = errnoOf(error);
  if (code === 'ENOENT' && (error as { path?: string }).path === file) return invalid(file, 'it does not exist', error);
  if (code?.startsWith('E') && !code.startsWith('ERR_')) return error;
  return invalid(file, (error as Error).message, error);
}

function parseManifest(file: string, name: string, content: Buffer): BackupManifest {
  if (name !== MANIFEST_NAME) throw invalid(file, 'it has no manifest');
  const manifest = parseJson(file, content) as BackupManifest;
  if (manifest.format !== FORMAT_VERSION)
    throw invalid(file, `its format is ${manifest.format}, not ${FORMAT_VERSION}`);
  return manifest;
}

function parseJson(file: string, content: Buffer): unknown {
  try {
    const value: unknown = JSON.parse(content.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // said below
  }
  throw invalid(file, 'its manifest is not JSON');
}

function safePath(file: string, name: string): string {
  const parts = name.replace(/\/$/, '').split('/');
  const bad = parts[0] !== 'data' || parts.some((part) => part === '' || part === '.' || part === '..');
  if (bad || name.includes('\0') || name.includes('\\')) throw invalid(file, `it has an entry named ${name}`);
  return parts.slice(1).join('/');
}

function invalid(file: string, why: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError('BACKUP_INVALID', `${file} is not a backup that can be restored: ${why}`, { cause });
}

function settle(resolve: () => void, reject: (error: Error) => void) {
  return (error?: Error | null): void => (error ? reject(error) : resolve());
}

/** One SHA-256 over names and contents, in their order. */
class Digest {
  readonly #hash: Hash = createHash('sha256');
  #files = 0;
  #bytes = 0;

  entry(name: string): void {
    this.#hash.update(`${name.length}:${name}\0`);
  }
  bytes(chunk: Buffer): void {
    this.#bytes += chunk.length;
    this.#hash.update(chunk);
  }
  endOfFile(): void {
    this.#files++;
    this.#hash.update(`\0${this.#bytes}\0`);
  }
  file(name: string, content: Buffer): void {
    this.entry(name);
    this.bytes(content);
    this.endOfFile();
  }
  totals(): { files: number; bytes: number; sha256: string } {
    return { files: this.#files, bytes: this.#bytes, sha256: this.#hash.copy().digest('hex') };
  }
}
