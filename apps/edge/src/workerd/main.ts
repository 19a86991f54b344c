/**
 * The client services under workerd (Cloudflare's runtime). Bundle it with the conditions workerd, worker, browser; run it with the
 * compatibility flag nodejs_compat. Its bindings are those of config.ts: DATABASE_URL, and BATON_DATABASE_POOLED=1 for a pooler such
 * as Hyperdrive.
 */
import { readConfig } from '../config.ts';
import { createEdgeHandler, type EdgeContext, type EdgeHandler } from '../handler.ts';

let handler: EdgeHandler | undefined;

export default {
  fetch(request: Request, bindings: Readonly<Record<string, unknown>>, context: EdgeContext): Promise<Response> {
    // Bindings are the same for all requests of this isolate, and known with the first.
    handler ??= createEdgeHandler(readConfig(bindings));
    return handler(request, context);
  },
};
