import type { BlobService } from '@baton/contract';
import { isId, Refusal } from '@baton/domain';
import type { BlobRow, ClientEngine } from '@baton/engine';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { blobMessage } from '../messages/task-messages.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';

/** Of one AppendBlob. As JSON, a larger one would be too large for a message; files of tasks do not come as JSON. */
const MAX_CHUNK_BYTES = 1024 * 1024;
const MAX_ARTIFACT_CHUNK_BYTES = 4 * 1024 * 1024;

export function blobService(engine: ClientEngine, options: ApiOptions): ServiceImpl<typeof BlobService> {
  const { blobs } = engine;
  // How the bytes are to be read is said by whoever refers to them; the bytes themselves are bytes.
  const message = (blob: BlobRow) => blobMessage(blob, 2);
  return {
    async beginBlob(request) {
      const begun = await blobs.begin(request.namespace || 'default', {
        sizeBytes: Number(request.sizeBytes),
        sha256: request.sha256,
        isArtifact: request.artifact,
      });
      return {
        maxChunkBytes: request.artifact ? MAX_ARTIFACT_CHUNK_BYTES : MAX_CHUNK_BYTES,
        ...('blob' in begun ? { blob: message(begun.blob) } : { uploadId: begun.uploadId }),
      };
    },

    async appendBlob(request) {
      checkUploadId(request.uploadId);
      const received = await blobs.append(
        request.namespace || 'default',
        request.uploadId,
        Number(request.offset),
        request.data,
      );
      return { received: BigInt(received) };
    },

    async commitBlob(request) {
      checkUploadId(request.uploadId);
      return { blob: message(await blobs.commit(request.namespace || 'default', request.uploadId, request.sha256)) };
    },

    async statBlob(request) {
      const blob = await blobs.stat(request.namespace || 'default', request.sha256);
      return { blob: message(blob), createTime: timestampFromDate(blob.createdAt), place: blob.place };
    },

    async *readBlob(request, context) {
      const signal = eitherAborts(context.signal, options.closing);
      for await (const part of blobs.read(request.namespace || 'default', request.sha256, Number(request.offset))) {
        yield { offset: BigInt(part.offset), data: part.data };
        // Ended in order, a stream that was cut would look complete.
        if (signal.aborted) throwIfCut(context.signal, options.closing);
      }
    },
  };
}

/** Fits the pattern, and the column. */
function checkUploadId(id: string): void {
  if (!isId(id))
    throw new Refusal('invalid_argument', 'INVALID_REQUEST', 'upload_id: not an id', {
      violations: [{ field: 'upload_id', description: 'not an id' }],
    });
}
