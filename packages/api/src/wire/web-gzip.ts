import { Code, ConnectError } from '@connectrpc/connect';
import type { Compression } from '@connectrpc/connect/protocol';

type Bytes = Uint8Array<ArrayBuffer>;

/** gzip for Connect by what all platforms of the edge have. What it reads is bounded by what it becomes, and stops before it is there. */
export const webGzip: Compression = {
  name: 'gzip',
  compress: (bytes) => collect(through(bytes, new CompressionStream('gzip')), Number.POSITIVE_INFINITY),
  async decompress(bytes, readMaxBytes) {
    if (bytes.byteLength === 0) return new Uint8Array();
    try {
      return await collect(through(bytes, new DecompressionStream('gzip')), readMaxBytes);
    } catch (error) {
      if (error instanceof ConnectError) throw error;
      throw new ConnectError('decompression failed', Code.InvalidArgument, undefined, undefined, error);
    }
  },
};

function through(bytes: Uint8Array, transform: CompressionStream | DecompressionStream): ReadableStream<Bytes> {
  return new Blob([bytes as Bytes]).stream().pipeThrough(transform as TransformStream<Bytes, Bytes>);
}

async function collect(stream: ReadableStream<Bytes>, maxBytes: number): Promise<Bytes> {
  const reader = stream.getReader();
  const chunks: Bytes[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > maxBytes) {
      await reader.cancel();
      throw new ConnectError(
        `message is larger than configured readMaxBytes ${maxBytes} after decompression`,
        Code.ResourceExhausted,
      );
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
