import { notFound, Refusal } from '@baton/domain';
import {
  BLOB_CHUNK_BYTES,
  BlobBytesMissing,
  type BlobContent,
  type BlobPlace,
  type BlobRow,
  type BlobStore,
  type BlobStores,
  beginUpload,
  commitUpload,
  postgresBlobs,
  readUpload,
  useBlob,
  useBlobOfSession,
} from '@baton/store';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import { createNamespaceFinder } from '../namespaces.ts';
import { persist } from '../persist.ts';

/** Bytes that are too large for a row. All of it is namespaced; SHA-256 is hex. */
export interface Blobs {
  /**
   * Opens an upload; where the same bytes are kept already, gives the blob instead. `sizeBytes` 0: told by what comes; `sha256` '':
   * told at the commit. An artifact of known size may be larger than other blobs. @throws Refusal BLOB_TOO_LARGE
   */
  begin(
    namespace: string,
    upload: { sizeBytes: number; sha256: string; isArtifact?: boolean },
  ): Promise<{ uploadId: string } | { blob: BlobRow }>;
  /** Adds a chunk; gives the next offset. @throws Refusal BLOB_UPLOAD_NOT_FOUND, BLOB_GAP, BLOB_TOO_LARGE */
  append(namespace: string, uploadId: string, offset: number, data: Uint8Array): Promise<number>;
  /** Verifies and commits. May be repeated. @throws Refusal BLOB_UPLOAD_NOT_FOUND, BLOB_INCOMPLETE, BLOB_MISMATCH */
  commit(namespace: string, uploadId: string, sha256: string): Promise<BlobRow>;
  /** @throws Refusal BLOB_NOT_FOUND */
  stat(namespace: string, sha256: string): Promise<BlobRow>;
  /** The bytes from an offset on, in chunks of at most 1 MiB. @throws Refusal BLOB_NOT_FOUND, BLOB_NOT_REACHABLE */
  read(namespace: string, sha256: string, offset: number): AsyncGenerator<{ offset: number; data: Uint8Array }>;
  /** All bytes of a small one. @throws as `read` */
  readAll(blob: BlobRow): Promise<Uint8Array>;
  /** Finds a blob for something that is about to refer to it: then it stays for a day at least. */
  use(namespaceId: number, sha256: string): Promise<BlobRow | null>;
  useOfSession(sessionId: string, sha256: string): Promise<BlobRow | null>;
}

/** Of one upload, per wait for the next chunk. */
export const UPLOAD_TTL_MS = 3_600_000;
/** An unreferenced blob stays so long after its last use. */
export const UNUSED_BLOB_MS = 86_400_000;
/** What was used within this time is not marked again. */
const FRESH_MS = 3_600_000;

export function createBlobs(env: EngineEnvironment, lanes: LaneBook): Blobs {
  const { settings } = env;
  const findNamespace = createNamespaceFinder(env);
  /** No row has the number 0: in a namespace that nobody has used nothing is found. */
  const namespaceId = async (namespace: string) => (await findNamespace(namespace)) ?? 0;
  const sql = env.pools.api;
  const stores = blobStores(env);
  const writeTo = stores.directory ?? stores.postgres;

  const use = (inNamespace: number, sha256: string) =>
    persist(() => useBlob(sql, inNamespace, sha256, FRESH_MS), env.random);

  async function find(namespace: string, sha256: string): Promise<BlobRow> {
    const blob = await use(await namespaceId(namespace), sha256);
    if (blob === null) throw notFound('blob', sha256);
    return blob;
  }

  function storeOf(place: BlobPlace): BlobStore {
    const store = stores[place];
    if (!store) throw notReachable('its bytes are in a directory, and this process has none');
    return store;
  }

  async function readPart(blob: BlobRow, offset: number): Promise<Uint8Array> {
    try {
      const data = await storeOf(blob.place).read(sql, blob, offset, BLOB_CHUNK_BYTES);
      if (data.byteLength === 0) throw new BlobBytesMissing(blob.contentId, `in ${blob.place}`);
      return data;
    } catch (error) {
      throw error instanceof BlobBytesMissing ? notReachable(error.message) : error;
    }
  }

  function tooLarge(field: string, what = 'a blob', mostBytes = settings.maxBlobBytes): Refusal {
    const description = `${what} has at most ${mostBytes} bytes`;
    return new Refusal('resource_exhausted', 'BLOB_TOO_LARGE', description, { violations: [{ field, description }] });
  }

  return {
    async begin(namespace, { sizeBytes, sha256, isArtifact = false }) {
      const mostBytes = isArtifact ? settings.maxArtifactBytes : settings.maxBlobBytes;
      if (sizeBytes > mostBytes) throw tooLarge('size_bytes', isArtifact ? 'an artifact' : 'a blob', mostBytes);
      const inNamespace = await lanes.namespaceId(namespace);
      const known = sha256 === '' ? null : await use(inNamespace, sha256);
      if (known && sizeBytes > 0 && known.sizeBytes !== sizeBytes)
        throw invalid('size_bytes', `the bytes with this SHA-256 are ${known.sizeBytes}`);
      if (known) return { blob: known };
      const uploadId = env.ids.next();
      const upload = { id: uploadId, namespaceId: inNamespace, sizeBytes, place: writeTo.place, ttlMs: UPLOAD_TTL_MS };
      await persist(() => beginUpload(sql, upload), env.random);
      return { uploadId };
    },

    async append(namespace, uploadId, offset, data) {
      const inNamespace = await namespaceId(namespace);
      const upload = await persist(() => readUpload(sql, inNamespace, uploadId), env.random);
      if (upload === null) throw noUpload(uploadId);
      const store = storeOf(upload.place);
      let { receivedBytes: next, sizeBytes } = upload;
      for (;;) {
        if (offset > next)
          throw new Refusal(
            'failed_precondition',
            'BLOB_GAP',
            `the upload has ${next} bytes: the next chunk begins there, not at ${offset}`,
            { metadata: { expected_offset: String(next) } },
          );
        // A repeated chunk, or one that begins with bytes that are there.
        const rest = data.subarray(next - offset);
        if (rest.byteLength === 0 || next - offset >= data.byteLength) return next;
        const end = next + rest.byteLength;
        if (sizeBytes > 0 && end > sizeBytes)
          throw invalid('data', `goes ${end - sizeBytes} bytes beyond the ${sizeBytes} that were announced`);
        // What was announced was looked at then.
        if (sizeBytes === 0 && end > settings.maxBlobBytes) throw tooLarge('data');
        const chunk = {
          uploadId,
          namespaceId: inNamespace,
          offset: next,
          data: rest,
          ttlMs: UPLOAD_TTL_MS,
          maxBytes: settings.maxBlobBytes,
        };
        const found = await persist(() => reached(() => store.append(sql, chunk)), env.random);
        if (found === null) throw noUpload(uploadId);
        if (found.taken) return end;
        // Another call was quicker: what it brought may be all of this, or a part.
        if (found.receivedBytes === next) return next;
        next = found.receivedBytes;
        sizeBytes = found.sizeBytes;
      }
    },

    async commit(namespace, uploadId, sha256) {
      const inNamespace = await namespaceId(namespace);
      for (let tries = 0; tries < 5; tries++) {
        const upload = await persist(() => readUpload(sql, inNamespace, uploadId), env.random);
        if (upload === null) {
          // Committed by an earlier call, whose answer was lost: the bytes are what counts. Nothing is removed here: the id may be
          // that of an upload of another namespace.
          const blob = await use(inNamespace, sha256);
          if (blob === null) throw noUpload(uploadId);
          return blob;
        }
        const { receivedBytes, sizeBytes } = upload;
        if (receivedBytes < sizeBytes)
          throw new Refusal(
            'failed_precondition',
            'BLOB_INCOMPLETE',
            `${receivedBytes} of ${sizeBytes} bytes have come`,
            { metadata: { expected_offset: String(receivedBytes) } },
          );
        const content = { contentId: uploadId, sha256 };
        const sealed = await persist(() => storeOf(upload.place).seal(sql, content, receivedBytes), env.random).catch(
          (error) => {
            // Another call has committed or given up the upload meanwhile; or its bytes are somewhere else.
            if (error instanceof BlobBytesMissing) return error;
            throw error;
          },
        );
        if (sealed instanceof BlobBytesMissing) {
          if ((await persist(() => readUpload(sql, inNamespace, uploadId), env.random)) === null) continue;
          throw notReachable(sealed.message);
        }
        if (!sealed) {
          const description = `the ${receivedBytes} bytes that have come have another SHA-256`;
          throw new Refusal('invalid_argument', 'BLOB_MISMATCH', description, {
            violations: [{ field: 'sha256', description }],
          });
        }
        const blob = await persist(
          () => commitUpload(sql, { id: uploadId, namespaceId: inNamespace, sha256, receivedBytes }),
          env.random,
        );
        if (blob === null) continue;
        await forgetSurplus(stores, blob, content);
        return blob;
      }
      throw new Refusal('unavailable', 'BUSY', `upload ${uploadId} keeps moving; try again`, { retryAfterMs: 100 });
    },

    stat: find,

    async *read(namespace, sha256, offset) {
      const blob = await find(namespace, sha256);
      if (offset > blob.sizeBytes) throw invalid('offset', `the blob has ${blob.sizeBytes} bytes`);
      for (let at = offset; at < blob.sizeBytes; ) {
        const data = await readPart(blob, at);
        yield { offset: at, data };
        at += data.byteLength;
      }
    },

    async readAll(blob) {
      const all = new Uint8Array(blob.sizeBytes);
      for (let at = 0; at < blob.sizeBytes; ) {
        const data = await readPart(blob, at);
        all.set(data, at);
        at += data.byteLength;
      }
      return all;
    },

    use,
    useOfSession: (sessionId, sha256) => persist(() => useBlobOfSession(sql, sessionId, sha256, FRESH_MS), env.random),
  };
}

/** Those that the process was given; Postgres in any case. */
export function blobStores(env: EngineEnvironment): BlobStores {
  return env.blobStores ?? { postgres: postgresBlobs() };
}

/** After a commit: the upload's own bytes, where other bytes stand for them, and what only the upload needed. */
async function forgetSurplus(stores: BlobStores, blob: BlobRow, content: BlobContent): Promise<void> {
  for (const store of [stores.postgres, stores.directory]) {
    await store?.forgetUpload(content.contentId);
    if (blob.contentId !== content.contentId) await store?.forget(content);
  }
}

async function reached<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw error instanceof BlobBytesMissing ? notReachable(error.message) : error;
  }
}

function notReachable(why: string): Refusal {
  return new Refusal(
    'failed_precondition',
    'BLOB_NOT_REACHABLE',
    `the bytes of the blob cannot be read here: ${why}. All masters of one database need the same BATON_BLOB_DIRECTORY`,
  );
}

function noUpload(uploadId: string): Refusal {
  return new Refusal(
    'not_found',
    'BLOB_UPLOAD_NOT_FOUND',
    `upload ${uploadId} does not exist in this namespace (any more): begin anew`,
  );
}

function invalid(field: string, description: string): Refusal {
  return new Refusal('invalid_argument', 'INVALID_REQUEST', `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}
