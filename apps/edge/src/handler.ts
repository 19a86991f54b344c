import { createFetchApp } from '@baton/api';
import { type ClientEngine, createClientEngine, DEFAULT_SETTINGS, type EngineSettings, silentLog } from '@baton/engine';
import { drawEdgeNumber, openSql, singlePool } from '@baton/store';
import manifest from '../package.json' with { type: 'json' };
import { createEdgeIds } from './ids.ts';

export interface EdgeOptions {
  /** Of a database that a master has migrated: postgres://… */
  readonly databaseUrl: string;
  /** The URL leads to a transaction pooler (PgBouncer, Hyperdrive, …): no session settings, no prepared statements. Default false. */
  readonly pooled?: boolean;
  /**
   * A stream, or a wait for a task's end, is over after this long, ms; clients connect again. Not every platform tells that a caller
   * is gone before something is written to it, and a stream without news writes nothing. Default 30 000.
   */
  readonly streamMs?: number;
  /** Over the defaults; what submits and starts of runs need of them. */
  readonly settings?: Partial<EngineSettings>;
  /** Told of errors that nobody foresaw. Default: a line of JSON on the platform's console. */
  readonly report?: (error: unknown, where: string) => void;
}

/** What workerd hands over with a request. Deno has nothing of the kind and needs nothing. */
export interface EdgeContext {
  /** Keeps the request's surroundings alive until this is settled. */
  waitUntil(work: Promise<unknown>): void;
}

export type EdgeHandler = (request: Request, context?: EdgeContext) => Promise<Response>;

/**
 * The client services (tasks, workflows, system, checkpoints, blobs) as a fetch handler: Connect, gRPC-Web and JSON, for Deno, workerd and whatever else
 * speaks fetch. It keeps nothing between requests: each opens one connection to Postgres when it first needs it, and ends it when its
 * answer is sent. Streams work by looking again, for a bounded time. Workers, and the advance of runs, are for masters.
 *
 * Whoever reaches the handler may do everything: there are no tokens yet, so the platform has to keep strangers out.
 */
export function createEdgeHandler(options: EdgeOptions): EdgeHandler {
  const { databaseUrl, pooled = false, streamMs = 30_000, report = reportOnConsole } = options;
  const settings = { ...DEFAULT_SETTINGS, ...options.settings };
  const open = new WeakMap<Request, () => Promise<void>>();
  const app = createFetchApp(
    (request) => {
      const { engine, end } = openEngine(databaseUrl, pooled, settings);
      open.set(request, end);
      return engine;
    },
    { version: manifest.version, masterId: 'edge', uptimeMs: () => 0, report },
  );
  return async (incoming, context) => {
    const over = new AbortController();
    const request = new Request(incoming, { signal: AbortSignal.any([incoming.signal, over.signal]) });
    const timer = setTimeout(() => over.abort(), streamMs);
    const answered = await app.fetch(request);
    const { response, sent } = watchBody(answered, () => over.abort());
    const ended = sent
      .then(() => {
        clearTimeout(timer);
        return open.get(request)?.();
      })
      .catch((error) => report(error, 'end of the connection'));
    context?.waitUntil(ended);
    return response;
  };
}

/** An engine for one request. */
function openEngine(
  databaseUrl: string,
  pooled: boolean,
  settings: EngineSettings,
): { engine: ClientEngine; end(): Promise<void> } {
  const sql = openSql(databaseUrl, { max: 1, pooled, applicationName: 'baton edge' });
  const ids = createEdgeIds(() => drawEdgeNumber(sql));
  const pools = singlePool(sql);
  const engine = createClientEngine({ pools, ids, settings, now: Date.now, random: Math.random, log: silentLog });
  // A run that is stored is taken up by a master. Here its steps would be left half-way when the request is over.
  void engine.runs.stop();
  return {
    engine: {
      ...engine,
      submitter: {
        async submit(namespace, request) {
          await ids.draw();
          return engine.submitter.submit(namespace, request);
        },
      },
      blobs: {
        ...engine.blobs,
        async begin(namespace, upload) {
          await ids.draw();
          return engine.blobs.begin(namespace, upload);
        },
      },
      runs: {
        ...engine.runs,
        async start(namespace, request) {
          await ids.draw();
          return engine.runs.start(namespace, request);
        },
      },
    },
    end: () => pools.end(),
  };
}

/** The response, and when its body has been sent or is wanted no longer. */
function watchBody(response: Response, onUnwanted: () => void): { response: Response; sent: Promise<void> } {
  if (!response.body) return { response, sent: Promise.resolve() };
  const source = response.body.getReader();
  const { promise: sent, resolve } = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await source.read().catch((error: unknown) => {
        resolve();
        throw error;
      });
      if (!done) return controller.enqueue(value);
      resolve();
      controller.close();
    },
    async cancel(reason) {
      onUnwanted();
      resolve();
      await source.cancel(reason);
    },
  });
  return { response: new Response(body, response), sent };
}

function reportOnConsole(error: unknown, where: string): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(JSON.stringify({ level: 'error', msg: 'request failed', where, error: text }));
}
