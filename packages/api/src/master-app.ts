import type { Engine } from '@baton/engine';
import { Hono } from 'hono';
import workflowSchema from '../workflow.schema.json' with { type: 'json' };
import { metricsText } from './messages/metrics-text.ts';
import { measureHealth, readMetrics } from './services/system-service.ts';
import type { ApiOptions } from './wire/options.ts';

/** What a master serves besides RPCs. The dashboard's files are mounted behind it by the app. */
export function createMasterApp(engine: Engine, options: ApiOptions & { ready(): boolean }): Hono {
  const app = new Hono();
  // Alive: the process answers. Says nothing about Postgres, so that an outage does not restart every master.
  app.get('/healthz', (c) => c.json({ status: 'ok', version: options.version, master: options.masterId }));
  // Ready: it can serve now.
  app.get('/readyz', async (c) => {
    const { healthy, parts } = await measureHealth(engine);
    const ready = healthy && options.ready();
    return c.json(
      {
        status: ready ? 'ready' : 'not ready',
        parts: parts.map(({ name, healthy, message }) => ({ name, healthy, message })),
      },
      ready ? 200 : 503,
    );
  });
  // For editors: of files that are written away from a checkout, in the version that this master takes.
  app.get('/schemas/workflow.json', (c) =>
    c.body(JSON.stringify(workflowSchema), 200, {
      'content-type': 'application/schema+json',
      'access-control-allow-origin': '*',
      'cache-control': 'max-age=300',
    }),
  );
  app.get('/metrics', async (c) => {
    const text = metricsText(await readMetrics(engine, options, []));
    return c.text(text, 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
  });
  return app;
}
