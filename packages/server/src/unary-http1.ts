import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { codeToHttpStatus, errorToJsonBytes, parseTimeout } from '@connectrpc/connect/protocol-connect';
import { joined } from './grpc-frames.ts';
import { acceptsGzip, fastGzip } from './gzip.ts';
import type { OnError, RouterOptions } from './options.ts';
import type { UnaryCall, UnaryOutcome, UnaryRpc } from './unary.ts';
import type { GoOn } from './unary-http2.ts';

export interface LeanHttp1Options {
  compressMinBytes: number;
  maxMessageBytes: number;
  onError: OnError;
  jsonOptions: RouterOptions['jsonOptions'];
}

const contentType = 'application/proto';

/** Whether this is what `serveUnaryRequest` can do: Connect in binary, not compressed, not large. */
export function isPlainConnect({ method, headers }: IncomingMessage, maxMessageBytes: number): boolean {
  const length = headers['content-length'];
  return (
    headers['content-type'] === contentType &&
    method === 'POST' &&
    headers['content-encoding'] === undefined &&
    length !== undefined &&
    Number(length) <= maxMessageBytes
  );
}

/** A unary call of Connect over HTTP/1.1, which is how SDKs call; as `serveUnaryStream`. */
export function serveUnaryRequest(
  rpc: UnaryRpc,
  request: IncomingMessage,
  response: ServerResponse,
  options: LeanHttp1Options,
  goOn: GoOn,
): void {
  const { headers } = request;
  const timeout = parseTimeout((headers['connect-timeout-ms'] as string | undefined) ?? null, Number.MAX_SAFE_INTEGER);
  if (timeout.error !== undefined) {
    goOn([]);
    return;
  }
  const chunks: Buffer[] = [];
  request.on('error', ignore);
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const input = rpc.decode(joined(chunks));
    if (input === undefined) {
      goOn(chunks);
      return;
    }
    const call: UnaryCall = {
      protocolName: 'connect',
      headers,
      url: () => `http://${headers.host}${request.url}`,
      timeoutMs: timeout.timeoutMs,
      onGone: (listener) => {
        if (response.closed) listener();
        else response.once('close', () => listener());
      },
    };
    rpc
      .invoke(input, call)
      .then((outcome) => answer(headers['accept-encoding'], response, outcome, options))
      .catch((error) => options.onError(error, String(request.url)));
  });
}

async function answer(
  accepted: string | string[] | undefined,
  response: ServerResponse,
  outcome: UnaryOutcome,
  { compressMinBytes, jsonOptions }: LeanHttp1Options,
): Promise<void> {
  const headers: OutgoingHttpHeaders = { 'content-type': contentType };
  outcome.header?.forEach((value, name) => {
    headers[name] = value;
  });
  outcome.trailer?.forEach((value, name) => {
    headers[`trailer-${name}`] = value;
  });
  let status = 200;
  let bytes: Uint8Array;
  if ('error' in outcome) {
    const { error } = outcome;
    status = codeToHttpStatus(error.code);
    error.metadata.forEach((value, name) => {
      headers[name] = value;
    });
    headers['content-type'] = 'application/json';
    bytes = errorToJsonBytes(error, jsonOptions);
  } else {
    bytes = outcome.bytes;
  }
  if (bytes.length >= compressMinBytes && acceptsGzip(String(accepted ?? ''))) {
    bytes = await fastGzip.compress(bytes as Uint8Array<ArrayBuffer>);
    headers['content-encoding'] = 'gzip';
  }
  headers['content-length'] = bytes.length;
  // After what the same turn has for streams: a worker hears of a task that it is handed about 0.4 ms earlier, the caller no later.
  setImmediate(() => {
    if (response.destroyed) return;
    response.writeHead(status, headers);
    response.end(bytes);
  });
}

// Of a peer that goes one hears by the response's end.
function ignore(): void {}
