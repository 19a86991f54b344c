/**
 * The client services under Deno; see config.ts for what it reads. Listens on loopback (a platform such as Deno Deploy has its own
 * mind about that). Prints one line of JSON when it serves; SIGTERM and SIGINT let requests under way finish. Exit code 64: the
 * environment is wrong.
 */
import { EdgeConfigError, readConfig } from '../config.ts';
import { createEdgeHandler } from '../handler.ts';

/** As much of Deno's own as is used here. */
declare const Deno: {
  readonly pid: number;
  readonly env: { toObject(): Record<string, string> };
  exit(code: number): never;
  addSignalListener(signal: 'SIGTERM' | 'SIGINT', listener: () => void): void;
  serve(
    options: { hostname: string; port: number; onListen(address: { hostname: string; port: number }): void },
    handler: (request: Request) => Promise<Response>,
  ): { shutdown(): Promise<void> };
};

function configure() {
  try {
    return readConfig(Deno.env.toObject());
  } catch (error) {
    if (!(error instanceof EdgeConfigError)) throw error;
    for (const problem of error.problems) console.error(problem);
    return Deno.exit(64);
  }
}

const { port, ...options } = configure();
const handler = createEdgeHandler(options);
const server = Deno.serve(
  {
    hostname: '127.0.0.1',
    port,
    onListen: (address) => {
      const url = `http://${address.hostname}:${address.port}`;
      console.log(JSON.stringify({ edge: 'deno', url, pid: Deno.pid }));
    },
  },
  (request) => handler(request),
);
for (const signal of ['SIGTERM', 'SIGINT'] as const) Deno.addSignalListener(signal, () => void server.shutdown());
