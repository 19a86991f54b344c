import { errorDetails } from '@baton/contract/grpc';
import type { ClientEngine } from '@baton/engine';
import { Code, ConnectError, type ConnectRouterOptions, createConnectRouter } from '@connectrpc/connect';
import { universalServerRequestFromFetch, universalServerResponseToFetch } from '@connectrpc/connect/protocol';
import { errorToJson } from '@connectrpc/connect/protocol-connect';
import { Hono } from 'hono';
import { apiInterceptors, EDGE_SERVICES, edgeRoutes } from './routes.ts';
import type { ApiOptions } from './wire/options.ts';
import { refusalsBelow } from './wire/refusals-below.ts';
import { webGzip } from './wire/web-gzip.ts';

/** As at a master. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024 + 64 * 1024;

/**
 * The client services as a fetch handler: Connect, JSON and gRPC-Web (gRPC needs trailers, which fetch does not have). Each
 * request may bring an engine of its own, for platforms where a connection must not outlive a request.
 */
export function createFetchApp(engineFor: (request: Request) => ClientEngine, options: ApiOptions): Hono {
  const app = new Hono();
  const routerOptions: ConnectRouterOptions = {
    grpc: false,
    interceptors: apiInterceptors(options),
    readMaxBytes: MAX_MESSAGE_BYTES,
    acceptCompression: [webGzip],
    // Requests only: platforms compress answers by themselves, and some would do it a second time.
    compressMinBytes: Number.POSITIVE_INFINITY,
    ...refusalsBelow(),
  };
  // The routes are the same for every request; only the engine behind them changes.
  const paths = EDGE_SERVICES.flatMap((service) => service.methods.map((m) => `/${service.typeName}/${m.name}`));
  for (const requestPath of paths)
    app.all(requestPath, async (c) => {
      const router = createConnectRouter(routerOptions);
      edgeRoutes(engineFor(c.req.raw), options)(router);
      const handler = router.handlers.find((h) => h.requestPath === requestPath)!;
      const request = universalServerRequestFromFetch(c.req.raw, {});
      const answer = await handler(request);
      if (answer.status === 415)
        return errorAnswer(
          415,
          Code.InvalidArgument,
          'WRONG_CONTENT_TYPE',
          'send this RPC with Content-Type: application/json',
        );
      if (answer.status === 405)
        return errorAnswer(405, Code.Unimplemented, 'WRONG_HTTP_METHOD', 'call this RPC with POST');
      return universalServerResponseToFetch(answer);
    });
  app.get('/healthz', (c) => c.json({ status: 'ok', version: options.version }));
  app.notFound((c) => errorAnswer(404, Code.NotFound, 'UNKNOWN_PATH', `nothing is at ${new URL(c.req.url).pathname}`));
  return app;
}

/** What is no RPC, in the form of the Connect protocol, which its clients read and a person can. */
function errorAnswer(status: number, code: Code, reason: string, message: string): Response {
  const info = { desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } };
  return Response.json(errorToJson(new ConnectError(message, code, undefined, [info]), undefined), { status });
}
