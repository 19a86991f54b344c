import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { artifactNameProblem, MAX_ARTIFACTS } from '@baton/domain';
import type { BlobTransfer, TransferOptions } from '../calls/blob-transfer.ts';
import { ArtifactError } from '../errors.ts';
import { type ArtifactCache, bytesOfFile } from './artifact-cache.ts';
import type { Attempt } from './attempt.ts';
import type { ArtifactValue, AttemptArtifacts, AttemptFilesEnd, HandedArtifact } from './attempt-data.ts';

/** What was uploaded longer ago is looked at again before the task ends: blobs that nothing refers to go after a day. */
const refreshAfterMs = 3_600_000;

interface Produced {
  readonly sha256: string;
  readonly sizeBytes: number;
  /** Where its bytes lie as long as the attempt does. */
  readonly path: string;
  readonly atMs: number;
}

type Source = Parameters<AttemptArtifacts['put']>[1];

export interface AttemptFilesOptions {
  readonly cache: ArtifactCache;
  readonly blobs: BlobTransfer;
}

/** The files of one attempt: those that it is handed, and those that it produces. Made when it asks for one. */
export class AttemptFiles implements AttemptFilesEnd {
  readonly #attempt: Attempt;
  readonly #options: AttemptFilesOptions;
  readonly #transfer: TransferOptions = { check: () => this.#check(), moved: () => this.#attempt.sign() };
  readonly #produced = new Map<string, Produced>();
  readonly #got = new Map<string, Promise<string>>();
  /** Puts and fetches under way. */
  readonly #open = new Set<Promise<unknown>>();
  /** The last put of each name. */
  readonly #newest = new Map<string, number>();
  #puts = 0;
  #broken: Error | undefined;
  #directory: Promise<string> | undefined;
  #finishing: Promise<ReadonlyMap<string, Produced>> | undefined;

  constructor(attempt: Attempt, options: AttemptFilesOptions) {
    this.#attempt = attempt;
    this.#options = options;
  }

  get inputs(): readonly HandedArtifact[] {
    return Object.entries(this.#attempt.lease.artifacts)
      .map(([name, { sha256, sizeBytes }]) => ({ name, sha256, sizeBytes: Number(sizeBytes) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  readonly put = (name: string, source: Source): Promise<ArtifactValue> => {
    const number = ++this.#puts;
    this.#newest.set(name, number);
    return this.#track(
      this.#put(name, source, number).catch((error: Error) => {
        // Of what is not awaited, too: a task whose file is not kept has not succeeded.
        if (this.#newest.get(name) === number) this.#broken ??= error;
        throw error;
      }),
    );
  };

  readonly get = (name: string): Promise<string> => {
    let got = this.#got.get(name);
    if (got === undefined) {
      got = this.#get(name);
      this.#got.set(name, got);
      got.catch(() => this.#got.delete(name));
    }
    return this.#track(got);
  };

  readonly directory = async (): Promise<string> => {
    const directory = join(await this.#own(), 'in');
    for (const { name } of this.inputs) await this.get(name);
    return directory;
  };

  finished(): Promise<ReadonlyMap<string, { sha256: string; sizeBytes: number }>> {
    // Asked by what is under way from now on.
    this.#finishing ??= Promise.resolve().then(() => this.#finish());
    return this.#finishing;
  }

  async #finish(): Promise<ReadonlyMap<string, Produced>> {
    while (this.#open.size > 0) await Promise.allSettled(this.#open);
    if (this.#broken !== undefined) throw this.#broken;
    for (const file of this.#produced.values()) if (Date.now() - file.atMs > refreshAfterMs) await this.#upload(file);
    return this.#produced;
  }

  async dispose(): Promise<void> {
    await Promise.allSettled([...this.#open, this.#finishing]);
    const directory = await this.#directory?.catch(() => undefined);
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  }

  async #put(name: string, source: Source, number: number): Promise<ArtifactValue> {
    this.#checkRuns();
    const problem = typeof name === 'string' ? artifactNameProblem(name) : 'is not a text';
    if (problem) throw new ArtifactError('INVALID_NAME', `the name ${JSON.stringify(name)} of an artifact ${problem}`);
    if (this.#newest.size > MAX_ARTIFACTS)
      throw new ArtifactError('TOO_MANY_ARTIFACTS', `a task has at most ${MAX_ARTIFACTS} artifacts`);
    const path = join(await this.#own(), 'out', String(number));
    const { sha256, sizeBytes } = await this.#options.cache.take(await contentOf(source), path);
    const file = { sha256, sizeBytes, path, atMs: Date.now() };
    await this.#upload(file);
    // A later put of the same name counts, whichever is done first.
    if (this.#newest.get(name) === number) this.#produced.set(name, file);
    return { __baton: 'artifact', name, sha256, sizeBytes };
  }

  async #upload({ path, sha256, sizeBytes }: Produced): Promise<void> {
    await this.#options.blobs.uploadFile(path, { sha256, sizeBytes }, this.#transfer);
  }

  async #get(name: string): Promise<string> {
    const { cache, blobs } = this.#options;
    // Fetched ahead for one that waits, too.
    if (this.#attempt.phase !== 'queued') this.#checkRuns();
    const handed = this.inputs.find((input) => input.name === name);
    if (handed === undefined) {
      const names = this.inputs.map((input) => JSON.stringify(input.name)).join(', ');
      const has = names === '' ? 'it is handed none' : `it is handed ${names}`;
      throw new ArtifactError('NO_SUCH_ARTIFACT', `the task has no artifact ${JSON.stringify(name)}: ${has}`);
    }
    const { sha256, sizeBytes } = handed;
    const path = join(await this.#own(), 'in', ...name.split('/'));
    await cache.place(sha256, sizeBytes, path, (from, take) =>
      blobs.downloadInto(sha256, sizeBytes, from, take, this.#transfer),
    );
    this.#check();
    return path;
  }

  /** Whether bytes may still move: until the code is over, and with it what is under way when it succeeds. */
  #check(): void {
    const { stop, phase } = this.#attempt;
    if (stop?.kind === 'lost') throw stop;
    if (phase !== 'running' && phase !== 'queued' && !(phase === 'finished' && this.#finishing !== undefined))
      throw attemptOver();
  }

  #checkRuns(): void {
    this.#check();
    if (this.#attempt.phase !== 'running') throw attemptOver();
  }

  #own(): Promise<string> {
    this.#directory ??= this.#options.cache.directoryFor(`${this.#attempt.taskId}-${this.#attempt.epoch}`);
    return this.#directory;
  }

  #track<T>(promise: Promise<T>): Promise<T> {
    const settled: Promise<unknown> = promise.then(
      () => this.#open.delete(settled),
      () => this.#open.delete(settled),
    );
    this.#open.add(settled);
    return promise;
  }
}

function attemptOver(): ArtifactError {
  return new ArtifactError('ATTEMPT_OVER', 'the attempt is over');
}

/** @throws ArtifactError where it is no file */
async function contentOf(source: Source): Promise<AsyncIterable<Uint8Array>> {
  if (source instanceof Uint8Array) return once(source);
  if (typeof source === 'object' && Symbol.asyncIterator in source) return source;
  const about = await stat(source).catch((error: NodeJS.ErrnoException) => {
    throw new ArtifactError('NO_FILE', `${String(source)} cannot be read: ${error.message}`, { cause: error });
  });
  if (about.isDirectory())
    throw new ArtifactError(
      'NO_FILE',
      `${String(source)} is a directory, and an artifact is one file: pack it (tar), or put its files one by one under names like dir/file`,
    );
  if (!about.isFile()) throw new ArtifactError('NO_FILE', `${String(source)} is no file`);
  return bytesOfFile(source instanceof URL ? fileURLToPath(source) : source);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
