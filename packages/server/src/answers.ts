import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { errorDetails } from '@baton/contract/grpc';
import { Code, ConnectError } from '@connectrpc/connect';
import { codeFromString, errorToJson } from '@connectrpc/connect/protocol-connect';
import { setTrailerStatus } from '@connectrpc/connect/protocol-grpc';

export type NodeRequest = IncomingMessage | Http2ServerRequest;
export type NodeResponse = ServerResponse | Http2ServerResponse;

/** Answers at once and in full; headers set on the response before are kept. */
export function send(
  response: NodeResponse,
  status: number,
  headers: Record<string, string> = {},
  body?: string,
): void {
  response.statusCode = status;
  for (const name in headers) {
    response.setHeader(name, headers[name]!);
  }
  if (body === undefined) {
    // An empty string would be a DATA frame of its own, and gRPC clients want to see the stream end with the headers.
    response.end();
  } else {
    response.end(body);
  }
}

/** An error in the JSON form of the Connect protocol, which its clients read and a person can. @param reason stable, for programs */
export function sendError(response: NodeResponse, status: number, code: string, reason: string, message: string): void {
  const error = errorToJson(errorWith(codeFromString(code)!, reason, message), undefined);
  send(response, status, { 'Content-Type': 'application/json' }, JSON.stringify(error));
}

function errorWith(code: Code, reason: string, message: string): ConnectError {
  const info = { desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } };
  return new ConnectError(message, code, undefined, [info]);
}

/** The answer to what is no RPC where no `fetch` is given. */
export function notFound(request: NodeRequest, response: NodeResponse): void {
  sendError(response, 404, 'not_found', 'UNKNOWN_PATH', `nothing is served at ${request.url}`);
}

/** An RPC that does not exist, said in the words of the protocol that asked. */
export function unimplemented(path: string, contentType: string | undefined, response: NodeResponse): void {
  const message = `unknown method ${path.slice(1)}`;
  if (contentType !== undefined && /^application\/grpc(\+|;|$)/i.test(contentType)) {
    // A gRPC answer without body: status and message stand in the headers.
    send(response, 200, {
      'Content-Type': contentType,
      ...Object.fromEntries(setTrailerStatus(new Headers(), errorWith(Code.Unimplemented, 'UNKNOWN_METHOD', message))),
      'grpc-message': encodeURI(message),
    });
  } else {
    sendError(response, 404, 'unimplemented', 'UNKNOWN_METHOD', message);
  }
}

/** Whether a request can only be meant for an RPC. */
export function isRpcContent(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/(grpc|connect|proto)\b/i.test(contentType);
}
