import { readFileSync } from 'node:fs';
import type { Hono } from 'hono';

/**
 * The page at the root. The dashboard's files take this place; until then one small page shows what runs here, using nothing but
 * the public API from the browser.
 */
export function mountStatic(app: Hono, folder: URL): void {
  const files: Record<string, { file: string; type: string }> = {
    '/': { file: 'index.html', type: 'text/html; charset=utf-8' },
    '/page.js': { file: 'page.js', type: 'text/javascript; charset=utf-8' },
    '/page.css': { file: 'page.css', type: 'text/css; charset=utf-8' },
  };
  for (const [path, { file, type }] of Object.entries(files)) {
    const body = readFileSync(new URL(file, folder), 'utf8');
    app.get(path, (c) =>
      c.body(body, 200, {
        'content-type': type,
        'content-security-policy':
          "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cache-control': 'no-cache',
      }),
    );
  }
  app.notFound((c) => c.json({ code: 'not_found', message: `nothing is at ${new URL(c.req.url).pathname}` }, 404));
}
