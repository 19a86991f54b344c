import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { compressedFlag } from '@connectrpc/connect/protocol';
import { contentTypeProto, parseTimeout, setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { acceptsGzip, fastGzip } from './gzip.ts';
import type { Http2Sessions, Incoming } from './http2-sessions.ts';
import type { OnError } from './options.ts';
import { plainMessage } from './rpc.ts';
import type { UnaryCall, UnaryOutcome, UnaryRpc } from './unary.ts';

/** Larger ones gain nothing: their bytes cost more than their call. */
export const maxLeanBytes = 1024 * 1024;
const headBytes = 5;
const resetCanceled = 8;

export interface LeanOptions {
  sessions: Http2Sessions;
  compressMinBytes: number;
  maxMessageBytes: number;
  onError: OnError;
}

/** What goes on as any other request. `begun` is what was read of its body. */
export type GoOn = (begun: readonly Uint8Array[]) => void;

/** Whether these are the headers of what `serveUnaryStream` can do: gRPC in binary, not compressed. */
export function isPlainGrpc(headers: IncomingHttpHeaders): boolean {
  const type = headers['content-type'];
  const encoding = headers['grpc-encoding'];
  return (
    (type === 'application/grpc' || type === contentTypeProto) &&
    headers[':method'] === 'POST' &&
    (encoding === undefined || encoding === 'identity') &&
    headers.expect === undefined
  );
}

/**
 * A unary call of gRPC on the stream itself: Node's request and response, Connect's adapter and its pipeline of async generators cost more
 * than all else that a small call needs (see docs/reference/benchmarks.md, "Where the time goes"). Whatever is not as it mostly is goes on to them.
 */
export function serveUnaryStream(
  rpc: UnaryRpc,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  options: LeanOptions,
  goOn: GoOn,
): void {
  const timeout = parseTimeout((headers['grpc-timeout'] as string | undefined) ?? null, Number.MAX_SAFE_INTEGER);
  if (timeout.error !== undefined) {
    goOn([]);
    return;
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  const incoming: Incoming & { complete: boolean } = { stream, complete: false };
  options.sessions.expectBody(incoming);
  stream.on('error', ignore);
  const leave = () => {
    stream.off('data', onData);
    stream.off('end', onEnd);
    options.sessions.bodyArrived(incoming);
    goOn(chunks);
  };
  const onData = (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    const head = chunks.length === 1 ? chunk : chunks[0]!;
    const isPlain = head.length >= headBytes && head[0] === 0 && head.readUInt32BE(1) <= maxLeanBytes;
    if (!isPlain || bytes > headBytes + head.readUInt32BE(1)) {
      // A stream that was paused stays so until it is told otherwise, whoever listens next.
      stream.pause();
      stream.on('newListener', (event) => {
        if (event === 'data') process.nextTick(() => stream.resume());
      });
      leave();
    }
  };
  const onEnd = () => {
    incoming.complete = true;
    options.sessions.bodyArrived(incoming);
    const size = bytes - headBytes;
    const isWhole = size >= 0 && size === chunks[0]!.readUInt32BE(1) && size <= options.maxMessageBytes;
    const input = isWhole ? rpc.decode(joined(chunks).subarray(headBytes)) : undefined;
    if (input === undefined) {
      leave();
      return;
    }
    const call: UnaryCall = {
      protocolName: 'grpc',
      headers,
      url: () => `http://${headers[':authority'] ?? headers.host}${headers[':path']}`,
      timeoutMs: timeout.timeoutMs,
      onGone: (listener) => {
        const gone = () => listener(stream.rstCode === resetCanceled ? canceled() : undefined);
        if (stream.closed) gone();
        else stream.once('close', gone);
      },
    };
    rpc
      .invoke(input, call)
      .then((outcome) => answer(stream, headers, outcome, options))
      .catch((error) => options.onError(error, String(headers[':path'])));
  };
  stream.on('data', onData);
  stream.on('end', onEnd);
}

/** A copy, without what was read beside it; and no Buffer, so that bytes of a message are what they always are. */
export function joined(chunks: readonly Buffer[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

async function answer(
  stream: ServerHttp2Stream,
  request: IncomingHttpHeaders,
  outcome: UnaryOutcome,
  { compressMinBytes }: LeanOptions,
): Promise<void> {
  const headers: OutgoingHttpHeaders = { ':status': 200, 'content-type': contentTypeProto };
  const gzips = acceptsGzip(request['grpc-accept-encoding'] as string | undefined);
  if (gzips) headers['grpc-encoding'] = 'gzip';
  outcome.header?.forEach((value, name) => {
    headers[name] = value;
  });
  const trailers: OutgoingHttpHeaders = {};
  outcome.trailer?.forEach((value, name) => {
    trailers[name] = value;
  });
  let envelope: Buffer | undefined;
  if ('error' in outcome) {
    setTrailerStatus(new Headers(), outcome.error).forEach((value, name) => {
      trailers[name] = name === 'grpc-message' ? plainMessage(outcome.error.rawMessage) : value;
    });
  } else {
    trailers['grpc-status'] = '0';
    const compresses = gzips && outcome.bytes.length >= compressMinBytes;
    const data = compresses ? await fastGzip.compress(outcome.bytes as Uint8Array<ArrayBuffer>) : outcome.bytes;
    envelope = Buffer.allocUnsafe(headBytes + data.length);
    envelope[0] = compresses ? compressedFlag : 0;
    envelope.writeUInt32BE(data.length, 1);
    envelope.set(data, headBytes);
  }
  if (stream.destroyed || stream.closed) return;
  stream.respond(headers, { waitForTrailers: true });
  stream.once('wantTrailers', () => {
    if (!stream.destroyed && !stream.closed) stream.sendTrailers(trailers);
  });
  stream.end(envelope);
}

function canceled(): ConnectError {
  return new ConnectError('http/2 stream closed with error code CANCEL (0x8)', Code.Canceled);
}

// A peer that goes is no news; what waits for it hears of the stream's end.
function ignore(): void {}
