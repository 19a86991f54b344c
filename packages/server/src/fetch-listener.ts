import type { IncomingMessage, ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { NodeRequest, NodeResponse } from './answers.ts';
import type { FetchEnvironment, OnError, ServeOptions, ServerContext } from './options.ts';

/** A fetch handler as a listener for node's requests. What it throws is reported, and answered with 500. */
export function fetchListener(
  fetch: NonNullable<ServeOptions['fetch']>,
  context: ServerContext,
  onError: OnError,
): (request: NodeRequest, response: NodeResponse) => void {
  const listener = getRequestListener(
    (request, environment) => fetch(request, { ...environment, ...context } as FetchEnvironment),
    {
      // By default it replaces the global Request and Response of the whole process.
      overrideGlobalObjects: false,
      errorHandler(error) {
        onError(error, 'fetch');
        return Response.json({ code: 'internal', message: 'internal error' }, { status: 500 });
      },
    },
  );
  return (request, response) => {
    listener(request as IncomingMessage, response as ServerResponse).catch((error: unknown) => {
      onError(error, 'fetch');
      response.destroy();
    });
  };
}
