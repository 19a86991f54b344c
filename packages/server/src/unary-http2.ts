import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { compressedFlag } from '@connectrpc/connect/protocol';
import { contentTypeProto, parseTimeout, setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { acceptsGzip, fastGzip } from './gzip.ts';
import type { Http2Sessions, Incoming } from './http2-sessions.ts';
import type { OnError } from './options.ts';
import { plainMessage } from './rpc.ts';
import type { AnswerSink, ServerStreamRpc } from './server-stream.ts';
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
 * A call of gRPC with one question, on the stream itself: Node's request and response, Connect's adapter and its pipeline of async generators cost more
 * than all else that a small call needs (see docs/reference/benchmarks.md, "Where the time goes"). Whatever is not as it mostly is goes on to them.
 */
export function serveUnaryStream(
  rpc: UnaryRpc | ServerStreamRpc,
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
    if ('run' in rpc) {
      void rpc.run(input, call, answersOn(stream, headers, options));
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
  const gzips = acceptsGzip(request['grpc-accept-encoding'] as string | undefined);
  let envelope: Buffer | undefined;
  if (!('error' in outcome)) {
    const compresses = gzips && outcome.bytes.length >= compressMinBytes;
    envelope = compresses ? await compressed(outcome.bytes) : enveloped(outcome.bytes, 0);
  }
  if (stream.destroyed || stream.closed) return;
  const trailers = trailersOf('error' in outcome ? outcome.error : undefined, outcome.trailer);
  stream.respond(headersOf(gzips, outcome.header), { waitForTrailers: true });
  stream.once('wantTrailers', () => {
    if (!stream.destroyed && !stream.closed) stream.sendTrailers(trailers);
  });
  stream.end(envelope);
}

/** Headers go with the first answer, or with the end. */
function answersOn(
  stream: ServerHttp2Stream,
  request: IncomingHttpHeaders,
  { compressMinBytes }: LeanOptions,
): AnswerSink {
  const gzips = acceptsGzip(request['grpc-accept-encoding'] as string | undefined);
  let trailers: OutgoingHttpHeaders = {};
  const isGone = () => stream.destroyed || stream.closed;
  const begin = (header: Headers | undefined) => {
    if (stream.headersSent) return;
    stream.respond(headersOf(gzips, header), { waitForTrailers: true });
    stream.once('wantTrailers', () => {
      if (!isGone()) stream.sendTrailers(trailers);
    });
  };
  const write = (envelope: Buffer, header: Headers | undefined): boolean | Promise<boolean> => {
    if (isGone()) return false;
    begin(header);
    return stream.write(envelope) || drained(stream).then(() => !isGone());
  };
  return {
    write({ bytes, made }, header) {
      if (gzips && bytes.length >= compressMinBytes) {
        const whole = (made.get('gzip') as Promise<Buffer> | undefined) ?? compressed(bytes);
        made.set('gzip', whole);
        return whole.then((envelope) => write(envelope, header));
      }
      const whole = (made.get('plain') as Buffer | undefined) ?? enveloped(bytes, 0);
      made.set('plain', whole);
      return write(whole, header);
    },
    end(error, header, trailer) {
      if (isGone()) return;
      trailers = trailersOf(error, trailer);
      begin(header);
      stream.end();
    },
  };
}

/** Until there is room for more, or nobody to read it. */
function drained(stream: ServerHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.once('drain', done);
    stream.once('close', done);
    if (stream.destroyed) done();
  });
}

function enveloped(data: Uint8Array, flag: number): Buffer {
  const envelope = Buffer.allocUnsafe(headBytes + data.length);
  envelope[0] = flag;
  envelope.writeUInt32BE(data.length, 1);
  envelope.set(data, headBytes);
  return envelope;
}

async function compressed(bytes: Uint8Array): Promise<Buffer> {
  return enveloped(await fastGzip.compress(bytes as Uint8Array<ArrayBuffer>), compressedFlag);
}

function headersOf(gzips: boolean, header: Headers | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { ':status': 200, 'content-type': contentTypeProto };
  if (gzips) headers['grpc-encoding'] = 'gzip';
  header?.forEach((value, name) => {
    headers[name] = value;
  });
  return headers;
}

function trailersOf(error: ConnectError | undefined, trailer: Headers | undefined): OutgoingHttpHeaders {
  const trailers: OutgoingHttpHeaders = {};
  trailer?.forEach((value, name) => {
    trailers[name] = value;
  });
  if (error === undefined) trailers['grpc-status'] = '0';
  else
    setTrailerStatus(new Headers(), error).forEach((value, name) => {
      trailers[name] = name === 'grpc-message' ? plainMessage(error.rawMessage) : value;
    });
  return trailers;
}

function canceled(): ConnectError {
  return new ConnectError('http/2 stream closed with error code CANCEL (0x8)', Code.Canceled);
}

// A peer that goes is no news; what waits for it hears of the stream's end.
function ignore(): void {}
