import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Code } from '@connectrpc/connect';

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

/** An error in the JSON form of the Connect protocol, which its clients read and a person can. */
export function sendError(response: NodeResponse, status: number, code: string, message: string): void {
  send(response, status, { 'Content-Type': 'application/json' }, JSON.stringify({ code, message }));
}

/** The answer to what is no RPC where no `fetch` is given. */
export function notFound(request: NodeRequest, response: NodeResponse): void {
  sendError(response, 404, 'not_found', `nothing is served at ${request.url}`);
}

/** An RPC that does not exist, said in the words of the protocol that asked. */
export function unimplemented(path: string, contentType: string | undefined, response: NodeResponse): void {
  const message = `unknown method ${path.slice(1)}`;
  if (contentType !== undefined && /^application\/grpc(\+|;|$)/i.test(contentType)) {
    // A gRPC answer without body: status and message stand in the headers.
    send(response, 200, {
      'Content-Type': contentType,
      'Grpc-Status': String(Code.Unimplemented),
      'Grpc-Message': encodeURI(message),
    });
  } else {
    sendError(response, 404, 'unimplemented', message);
  }
}

/** Whether a request can only be meant for an RPC. */
export function isRpcContent(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/(grpc|connect|proto)\b/i.test(contentType);
}
