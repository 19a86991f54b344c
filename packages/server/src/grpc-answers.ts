import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { contentTypeProto, setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { framed, framedCompressed } from './grpc-frames.ts';
import { acceptsGzip } from './gzip.ts';
import { plainMessage } from './rpc.ts';
import type { AnswerSink } from './stream-rpc.ts';
import type { UnaryCall } from './unary.ts';

const resetCanceled = 8;

/** Headers go with the first answer, or with the end. */
export function answersOn(
  stream: ServerHttp2Stream,
  request: IncomingHttpHeaders,
  compressMinBytes: number,
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
        const whole = (made.get('gzip') as Promise<Buffer> | undefined) ?? framedCompressed(bytes);
        made.set('gzip', whole);
        return whole.then((envelope) => write(envelope, header));
      }
      const whole = (made.get('plain') as Buffer | undefined) ?? framed(bytes, 0);
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

export function headersOf(gzips: boolean, header: Headers | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { ':status': 200, 'content-type': contentTypeProto };
  if (gzips) headers['grpc-encoding'] = 'gzip';
  header?.forEach((value, name) => {
    headers[name] = value;
  });
  return headers;
}

export function trailersOf(error: ConnectError | undefined, trailer: Headers | undefined): OutgoingHttpHeaders {
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

/** The call that came on a stream. */
export function callOn(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  timeoutMs: number | undefined,
): UnaryCall {
  return {
    protocolName: 'grpc',
    headers,
    url: () => `http://${headers[':authority'] ?? headers.host}${headers[':path']}`,
    timeoutMs,
    onGone: (listener) => {
      const gone = () => listener(stream.rstCode === resetCanceled ? canceled() : undefined);
      if (stream.closed) gone();
      else stream.once('close', gone);
    },
  };
}

export function canceled(): ConnectError {
  return new ConnectError('http/2 stream closed with error code CANCEL (0x8)', Code.Canceled);
}

// A peer that goes is no news; what waits for it hears of the stream's end.
export function ignore(): void {}
