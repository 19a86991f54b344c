import {
  BlobService,
  type Checkpoint,
  CheckpointSchema,
  CheckpointService,
  type CompareCheckpointsResponse,
} from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { createHash, hexOf } from '../data/blob-bytes.ts';

/** What a master keeps beside its rows, in memory: blobs and checkpoints. A test puts in what it wants to be found. */
export class FakeKeep {
  readonly blobs = new Map<string, Uint8Array>();
  /** In the order of saving. */
  readonly checkpoints: { readonly checkpoint: Checkpoint; readonly data: Uint8Array }[] = [];
  /** What CompareCheckpoints answers with. */
  differences: CompareCheckpointsResponse['differences'] = [];
  readonly #uploads = new Map<string, Uint8Array[]>();

  addCheckpoint(checkpoint: MessageInitShape<typeof CheckpointSchema>, data: Uint8Array): void {
    const sha256 = hashOf([data]);
    this.checkpoints.push({
      checkpoint: create(CheckpointSchema, { sizeBytes: BigInt(data.length), sha256, ...checkpoint }),
      data,
    });
  }

  readonly routes = (router: ConnectRouter): void => {
    router.service(BlobService, {
      beginBlob: ({ sha256 }) => {
        const known = this.blobs.get(sha256);
        if (known) return { blob: { sha256, sizeBytes: BigInt(known.length) } };
        const uploadId = String(this.#uploads.size + 1);
        this.#uploads.set(uploadId, []);
        return { uploadId, maxChunkBytes: 1024 * 1024 };
      },
      appendBlob: ({ uploadId, offset, data }) => {
        this.#uploads.get(uploadId)!.push(data.slice());
        return { received: offset + BigInt(data.length) };
      },
      commitBlob: ({ uploadId, sha256 }) => {
        const parts = this.#uploads.get(uploadId)!;
        if (hashOf(parts) !== sha256) throw refusal(Code.InvalidArgument, 'BLOB_MISMATCH', 'another SHA-256');
        const bytes = joined(parts);
        this.blobs.set(sha256, bytes);
        return { blob: { sha256, sizeBytes: BigInt(bytes.length) } };
      },
      statBlob: ({ sha256 }) => {
        const bytes = this.#blob(sha256);
        return { blob: { sha256, sizeBytes: BigInt(bytes.length) }, place: 'postgres' };
      },
      readBlob: async function* (this: FakeKeep, { sha256, offset }: { sha256: string; offset: bigint }) {
        const bytes = this.#blob(sha256);
        for (let at = Number(offset); at < bytes.length; at += 1024)
          yield { offset: BigInt(at), data: bytes.subarray(at, at + 1024) };
      }.bind(this),
    });
    router.service(CheckpointService, {
      listCheckpoints: ({ taskId }) => ({ checkpoints: this.#of(taskId).map(({ checkpoint }) => checkpoint) }),
      getCheckpoint: ({ taskId, number, best }) => {
        const all = this.#of(taskId);
        const scored = all.filter(({ checkpoint }) => checkpoint.score !== undefined);
        const found = best
          ? scored.toSorted((a, b) => b.checkpoint.score! - a.checkpoint.score!)[0]
          : number === 0n
            ? all[0]
            : all.find(({ checkpoint }) => checkpoint.number === number);
        if (!found) throw refusal(Code.NotFound, 'CHECKPOINT_NOT_FOUND', `task ${taskId} has no such checkpoint`);
        return found;
      },
      compareCheckpoints: ({ taskId, a, b }) => {
        const [first, second] = [a, b].map((n) => this.#of(taskId).find(({ checkpoint }) => checkpoint.number === n)!);
        const sameContent = first!.checkpoint.sha256 === second!.checkpoint.sha256;
        return {
          a: first!.checkpoint,
          b: second!.checkpoint,
          sameContent,
          differences: this.differences,
        };
      },
      deleteCheckpoint: ({ taskId, number }) => {
        const at = this.checkpoints.findIndex(
          ({ checkpoint }) => checkpoint.taskId === taskId && checkpoint.number === number,
        );
        if (at < 0) throw refusal(Code.NotFound, 'CHECKPOINT_NOT_FOUND', `task ${taskId} has no checkpoint ${number}`);
        this.checkpoints.splice(at, 1);
        return {};
      },
      pruneCheckpoints: ({ taskId, keepLast }) => {
        const gone = this.#of(taskId).slice(keepLast || 5);
        for (const each of gone) this.checkpoints.splice(this.checkpoints.indexOf(each), 1);
        const freedBytes = gone.reduce((sum, { checkpoint }) => sum + checkpoint.sizeBytes, 0n);
        return { deleted: gone.length, freedBytes };
      },
      getCheckpointStatistics: ({ taskId }) => {
        const all = taskId === '' ? this.checkpoints : this.#of(taskId);
        return {
          count: BigInt(all.length),
          tasks: BigInt(new Set(all.map(({ checkpoint }) => checkpoint.taskId)).size),
          sizeBytes: all.reduce((sum, { checkpoint }) => sum + checkpoint.sizeBytes, 0n),
        };
      },
    });
  };

  /** Newest first. */
  #of(taskId: string) {
    return this.checkpoints.filter(({ checkpoint }) => checkpoint.taskId === taskId).toReversed();
  }

  #blob(sha256: string): Uint8Array {
    const bytes = this.blobs.get(sha256);
    if (!bytes) throw refusal(Code.NotFound, 'BLOB_NOT_FOUND', `blob ${sha256} does not exist in this namespace`);
    return bytes;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function hashOf(parts: readonly Uint8Array[]): string {
  const hash = createHash();
  for (const part of parts) hash.update(part);
  return hexOf(hash.digest());
}

function refusal(code: Code, reason: string, message: string): ConnectError {
  const error = new ConnectError(message, code);
  error.details = [{ desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } }];
  return error;
}
