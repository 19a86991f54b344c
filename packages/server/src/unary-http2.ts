import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { contentTypeProto, parseTimeout } from '@connectrpc/connect/protocol-grpc';
import { answersOn, callOn, headersOf, ignore, trailersOf } from './grpc-answers.ts';
import { framed, framedCompressed, frameHeadBytes, joined } from './grpc-frames.ts';
import { acceptsGzip } from './gzip.ts';
import type { Http2Sessions, Incoming } from './http2-sessions.ts';
import type { OnError } from './options.ts';
import { only, type StreamRpc } from './stream-rpc.ts';
import type { UnaryOutcome, UnaryRpc } from './unary.ts';

export interface LeanOptions {
  sessions: Http2Sessions;
  compressMinBytes: number;
  maxMessageBytes: number;
  onError: OnError;
}

/** What goes on as any other request. `begun` is what was read of its body. */
export type GoOn = (begun: readonly Uint8Array[]) => void;

/** Whether these are the headers of gRPC in binary. */
export function isGrpc(headers: IncomingHttpHeaders): boolean {
  const type = headers['content-type'];
  return (
    (type === 'application/grpc' || type === contentTypeProto) &&
    headers[':method'] === 'POST' &&
    headers.expect === undefined
  );
}

/** Of gRPC: whether no message is compressed. */
export function isPlain({ 'grpc-encoding': encoding }: IncomingHttpHeaders): boolean {
  return encoding === undefined || encoding === 'identity';
}

/**
 * A call of gRPC with one question, on the stream itself: Node's request and response, Connect's adapter and its pipeline of async generators cost more
 * than all else that a small call needs (see docs/reference/benchmarks.md, "Where the time goes"). Whatever is not as it mostly is goes on to them.
 */
export function serveUnaryStream(
  rpc: UnaryRpc | StreamRpc,
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
    const isPlain = head.length >= frameHeadBytes && head[0] === 0 && head.readUInt32BE(1) <= options.maxMessageBytes;
    if (!isPlain || bytes > frameHeadBytes + head.readUInt32BE(1)) {
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
    const size = bytes - frameHeadBytes;
    const isWhole = size >= 0 && size === chunks[0]!.readUInt32BE(1);
    const input = isWhole ? rpc.decode(joined(chunks).subarray(frameHeadBytes)) : undefined;
    if (input === undefined) {
      leave();
      return;
    }
    const call = callOn(stream, headers, timeout.timeoutMs);
    if ('run' in rpc) {
      void rpc.run(only(input), call, answersOn(stream, headers, options.compressMinBytes));
      return;
    }
    rpc
      .invoke(input, call)
      .then((outcome) => answer(stream, headers, outcome, options))
      .catch((error) => options.onError(error, String(headers[':path'])));
  };
  stream.on('data', onData);
  stream.on('end', onEnd);
}

async function answer(
  stream: ServerHttp2Stream,
  request: IncomingHttpHeaders,
  outcome: UnaryOutcome,
  { compressMinBytes }: LeanOptions,
): Promise<void> {
  const gzips = acceptsGzip(request['grpc-accept-encoding'] as string | undefined);
  let envelope: Buffer | undefined;
  if (!('error' in outcome)) {
    const compresses = gzips && outcome.bytes.length >= compressMinBytes;
    envelope = compresses ? await framedCompressed(outcome.bytes) : framed(outcome.bytes, 0);
  }
  if (stream.destroyed || stream.closed) return;
  const trailers = trailersOf('error' in outcome ? outcome.error : undefined, outcome.trailer);
  stream.respond(headersOf(gzips, outcome.header), { waitForTrailers: true });
  stream.once('wantTrailers', () => {
    if (!stream.destroyed && !stream.closed) stream.sendTrailers(trailers);
  });
  stream.end(envelope);
}
