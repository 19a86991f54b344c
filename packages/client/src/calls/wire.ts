import { Code, ConnectError } from '@connectrpc/connect';

/**
 * Whether messages from 1 KiB on travel compressed (gzip). `auto`: unless the server is on this machine, where processors are dearer
 * than bytes; and in browsers only the answers, which they ask for themselves.
 */
export type Compression = 'auto' | 'gzip' | 'none';

export interface WireOptions {
  readonly compression: Compression;
  /** The largest answer, or message of a stream, after decompression. */
  readonly maxMessageBytes: number;
}

const COMPRESS_MIN_BYTES = 1024;
const FRAME_HEAD_BYTES = 5;
const COMPRESSED = 1;

/**
 * `fetch` for Connect's protocol with what Connect's own transport for it lacks: compression, and limits on what is read. Both count
 * what a message has after decompression, and stop before it is there.
 */
export function limitedFetch(
  fetch: typeof globalThis.fetch,
  url: string,
  options: WireOptions,
): typeof globalThis.fetch {
  const { maxMessageBytes } = options;
  let compresses = shouldCompress(options.compression, url);
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    const isStream = headers.get('content-type')?.startsWith('application/connect+') ?? false;
    const { body } = init ?? {};
    if (!compresses) headers.set('accept-encoding', 'identity');
    else if (isStream) headers.set('connect-accept-encoding', 'gzip');
    let response: Response | undefined;
    if (compresses && !isStream && body instanceof Uint8Array && body.byteLength >= COMPRESS_MIN_BYTES) {
      const compressed = new Headers(headers);
      compressed.set('content-encoding', 'gzip');
      response = await fetch(input, {
        ...init,
        headers: compressed,
        body: await gzip(body as Uint8Array<ArrayBuffer>),
      });
      if (response.status === 501) {
        // An older server; nothing was taken.
        compresses = false;
        response = undefined;
      }
    }
    response ??= await fetch(input, { ...init, headers });
    if (response.body === null || response.status < 200) return response;
    if (isStream) return withBody(response, response.body.pipeThrough(frames(maxMessageBytes)));
    const length = Number(response.headers.get('content-length') ?? Number.NaN);
    if (!response.headers.has('content-encoding') && length >= 0) {
      if (length <= maxMessageBytes) return response;
      await response.body.cancel();
      throw tooLarge(maxMessageBytes);
    }
    return withBody(response, response.body.pipeThrough(counted(maxMessageBytes)));
  };
}

function shouldCompress(compression: Compression, url: string): boolean {
  if (compression === 'none' || typeof CompressionStream === 'undefined') return false;
  if (compression === 'gzip') return true;
  const isBrowser = 'document' in globalThis;
  const host = URL.parse(url)?.hostname ?? '';
  return !isBrowser && !/^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/i.test(host);
}

function withBody(response: Response, body: ReadableStream<Uint8Array<ArrayBuffer>>): Response {
  const { status, statusText, headers } = response;
  return new Response(body, { status, statusText, headers });
}

type Bytes = Uint8Array<ArrayBuffer>;

function counted(maxBytes: number): TransformStream<Bytes, Bytes> {
  let count = 0;
  return new TransformStream({
    transform(chunk, controller) {
      count += chunk.byteLength;
      if (count > maxBytes) controller.error(tooLarge(maxBytes));
      else controller.enqueue(chunk);
    },
  });
}

/** The frames of a stream, each checked by its head before it is read; compressed ones are decompressed. */
function frames(maxBytes: number): TransformStream<Bytes, Bytes> {
  const head = new Uint8Array(FRAME_HEAD_BYTES);
  let headBytes = 0;
  /** Of the frame that is being read. */
  let left = 0;
  /** Parts of a compressed frame; null: what comes is passed on as it is. */
  let parts: Bytes[] | null = null;
  return new TransformStream({
    async transform(chunk, controller) {
      let rest = chunk;
      while (rest.byteLength > 0) {
        if (left === 0 && headBytes < FRAME_HEAD_BYTES) {
          const taken = rest.subarray(0, FRAME_HEAD_BYTES - headBytes);
          head.set(taken, headBytes);
          headBytes += taken.byteLength;
          rest = rest.subarray(taken.byteLength);
          if (headBytes < FRAME_HEAD_BYTES) return;
          left = new DataView(head.buffer).getUint32(1);
          if (left > maxBytes) throw tooLarge(maxBytes);
          parts = (head[0]! & COMPRESSED) === 0 ? null : [];
          if (parts === null) controller.enqueue(head.slice());
        }
        const taken = rest.subarray(0, left);
        left -= taken.byteLength;
        rest = rest.subarray(taken.byteLength);
        if (taken.byteLength > 0) {
          if (parts === null) controller.enqueue(taken);
          else parts.push(taken);
        }
        if (left > 0) return;
        if (parts !== null) {
          const data = await gunzip(parts, maxBytes);
          const plain = new Uint8Array(FRAME_HEAD_BYTES + data.byteLength);
          plain[0] = head[0]! & ~COMPRESSED;
          new DataView(plain.buffer).setUint32(1, data.byteLength);
          plain.set(data, FRAME_HEAD_BYTES);
          controller.enqueue(plain);
        }
        headBytes = 0;
      }
    },
  });
}

async function gzip(data: Bytes): Promise<Bytes> {
  const compressed = new Blob([data]).stream().pipeThrough(new CompressionStream('gzip'));
  return new Uint8Array(await new Response(compressed).arrayBuffer());
}

async function gunzip(parts: Bytes[], maxBytes: number): Promise<Bytes> {
  // An empty message is compressed to nothing by some.
  if (parts.length === 0) return new Uint8Array();
  const plain = new Blob(parts).stream().pipeThrough(new DecompressionStream('gzip')).pipeThrough(counted(maxBytes));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}

function tooLarge(maxBytes: number): ConnectError {
  return new ConnectError(`the answer has more than the ${maxBytes} bytes that are taken`, Code.ResourceExhausted);
}
