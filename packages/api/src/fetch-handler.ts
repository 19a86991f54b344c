import type { ClientEngine } from '@baton/engine';
import { type ConnectRouterOptions, createConnectRouter } from '@connectrpc/connect';
import { universalServerRequestFromFetch, universalServerResponseToFetch } from '@connectrpc/connect/protocol';
import { Hono } from 'hono';
import type { ApiOptions } from './options.ts';
import { apiInterceptors, EDGE_SERVICES, edgeRoutes } from './routes.ts';
import { webGzip } from './web-gzip.ts';

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
    // A typo in a hand-written request is an error that names it, as at a master.
    jsonOptions: { ignoreUnknownFields: false },
  };
  // The routes are the same for every request; only the engine behind them changes.
  const paths = EDGE_SERVICES.flatMap((service) => service.methods.map((m) => `/${service.typeName}/${m.name}`));
  for (const requestPath of paths)
    app.all(requestPath, async (c) => {
      const router = createConnectRouter(routerOptions);
      edgeRoutes(engineFor(c.req.raw), options)(router);
      const handler = router.handlers.find((h) => h.requestPath === requestPath)!;
      const request = universalServerRequestFromFetch(c.req.raw, {});
      return universalServerResponseToFetch(await handler(request));
    });
  app.get('/healthz', (c) => c.json({ status: 'ok', version: options.version }));
  app.notFound((c) => c.json({ code: 'not_found', message: `nothing is at ${new URL(c.req.url).pathname}` }, 404));
  return app;
}
