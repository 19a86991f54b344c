import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2';
import { FrameReader, fastGzip, framed, framedCompressed } from '@baton/server';
import { Code, ConnectError } from '@connectrpc/connect';
import { requestHeaderWithCompression, validateResponse, validateTrailer } from '@connectrpc/connect/protocol-grpc';
import type { Http2SessionManager } from '@connectrpc/connect-node';

/** A call with many questions and many answers, as bytes. */
export interface MessageStream {
  send(message: Uint8Array): void;
}

export interface StreamListener {
  onMessage(message: Uint8Array): void;
  /** Once, and nothing after it. Undefined: the other side has ended it, and all was well. */
  onEnd(error: ConnectError | undefined): void;
}

/** @param path such as `/baton.v1.MasterService/CallStream` */
export type OpenStream = (path: string, listener: StreamListener) => MessageStream;

export interface StreamOptions {
  readonly manager: Http2SessionManager;
  /** Whether messages from 1 KiB on travel compressed. */
  readonly compresses: boolean;
  /** Of one answer, after decompression. */
  readonly maxAnswerBytes: number;
}

const compressMinBytes = 1024;

/**
 * Streams of gRPC on the HTTP/2 stream itself. Connect's, whose messages pass through a chain of generators and wait for each other's writes,
 * costs a worker about as much CPU a message as all else that it does with it.
 */
export function grpcStreams({ manager, compresses, maxAnswerBytes }: StreamOptions): OpenStream {
  const header: Record<string, string> = {};
  const gzip = compresses ? fastGzip : null;
  requestHeaderWithCompression(true, undefined, undefined, gzip ? [gzip] : [], gzip).forEach((value, name) => {
    header[name] = value;
  });
  return (path, listener) => {
    let stream: ClientHttp2Stream | undefined;
    let unsent: Buffer[] = [];
    let isOver = false;
    const end = (error: ConnectError | undefined) => {
      if (isOver) return;
      isOver = true;
      unsent = [];
      if (stream !== undefined && !stream.closed) stream.close(error === undefined ? NO_ERROR : CANCEL);
      listener.onEnd(error);
    };
    const write = (frame: Buffer) => {
      if (isOver) return;
      if (stream === undefined) unsent.push(frame);
      else stream.write(frame);
    };
    manager.request('POST', path, header, {}).then(
      (opened) => {
        if (isOver) {
          opened.close(CANCEL);
          return;
        }
        stream = opened;
        listen(opened, maxAnswerBytes, manager, { onMessage: (message) => listener.onMessage(message), onEnd: end });
        for (const frame of unsent.splice(0)) opened.write(frame);
      },
      (reason) => end(broken(reason)),
    );
    // What is compressed is not overtaken: a cancel comes after its call.
    let tail: Promise<void> | undefined;
    return {
      send(message) {
        if (tail === undefined && (gzip === null || message.length < compressMinBytes)) {
          write(framed(message, 0));
          return;
        }
        const frame =
          gzip !== null && message.length >= compressMinBytes ? framedCompressed(message) : framed(message, 0);
        const own: Promise<void> = Promise.all([frame, tail])
          .then(([ready]) => write(ready))
          .catch((error) => end(ConnectError.from(error, Code.Internal)))
          .then(() => {
            if (tail === own) tail = undefined;
          });
        tail = own;
      },
    };
  };
}

const { NGHTTP2_NO_ERROR: NO_ERROR, NGHTTP2_CANCEL: CANCEL } = constants;

function listen(
  stream: ClientHttp2Stream,
  maxAnswerBytes: number,
  manager: Http2SessionManager,
  { onMessage, onEnd }: StreamListener,
): void {
  let headers = new Headers();
  let foundStatus = false;
  let trailers: Headers | undefined;
  const frames = new FrameReader(maxAnswerBytes, onMessage, onEnd);
  stream.on('response', (received) => {
    try {
      headers = webHeaders(received);
      const { foundStatus: found, headerError } = validateResponse(Number(received[':status']), headers);
      foundStatus = found;
      if (headerError) onEnd(headerError);
    } catch (error) {
      onEnd(ConnectError.from(error));
    }
  });
  stream.on('trailers', (received) => {
    trailers = webHeaders(received);
  });
  stream.on('data', (chunk: Buffer) => {
    manager.notifyResponseByteRead(stream);
    frames.push(chunk);
  });
  stream.on('end', () => {
    stream.end();
    // Cut off is not ended, though Node says so: then there are no trailers.
    if (trailers === undefined && !foundStatus) return;
    frames.end(() => {
      try {
        if (!foundStatus) validateTrailer(trailers!, headers);
        onEnd(undefined);
      } catch (error) {
        onEnd(ConnectError.from(error));
      }
    });
  });
  stream.on('error', (error) => onEnd(broken(error)));
  stream.on('close', () => {
    // After the last message, which may still be being decompressed.
    if (trailers === undefined)
      onEnd(new ConnectError(`the stream was cut, code ${stream.rstCode}`, codeOfCut(stream.rstCode)));
  });
}

function codeOfCut(rstCode: number): Code {
  const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } = constants;
  const ofTheMoment: readonly number[] = [NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM];
  return ofTheMoment.includes(rstCode) ? Code.Unavailable : Code.Internal;
}

function broken(reason: unknown): ConnectError {
  return ConnectError.from(reason, Code.Unavailable);
}

function webHeaders(headers: IncomingHttpHeaders): Headers {
  const web = new Headers();
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !name.startsWith(':'))
      for (const each of Array.isArray(value) ? value : [value]) web.append(name, each);
  return web;
}
