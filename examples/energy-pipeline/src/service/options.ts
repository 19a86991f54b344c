import { parseArgs } from 'node:util';
import { SERVICES, type ServiceName } from './kinds.ts';

export const USAGE = `Usage: node src/main.ts <generator|analyzer|reporter> [options]

Serves one step of the energy pipeline as ContainerExecutor over gRPC, with standard health and reflection.
When it listens, it prints one line of JSON to stdout: {"service":"energy-analyzer","address":"127.0.0.1:50062"}.
Its log goes to stderr, one line of JSON for each call.

Options:
  --port N          port; 0 is any free one (default: generator 50061, analyzer 50062, reporter 50063)
  --host NAME       loopback address to listen on (default 127.0.0.1)
  --delay-ms N      hold each call open for N ms before its output is written (default 0, or ENERGY_DELAY_MS);
                    for demonstrations of what happens when a worker dies while a call is in flight
  --stop-with-stdin stop when stdin ends (whoever started the service has died), and not on SIGINT
  -h, --help        print this

Example: node src/main.ts analyzer --port 0
`;

export interface ServiceOptions {
  readonly service: ServiceName;
  readonly port: number;
  readonly host: string;
  readonly delayMs: number;
  readonly stopWithStdin: boolean;
}

/** The command line is wrong; the message says how. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Reads command line and environment. @returns 'help' when that is what was asked for */
export function parseOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ServiceOptions | 'help' {
  const { values, positionals } = parse(args);
  if (values.help) return 'help';
  const [service, ...more] = positionals;
  if (service === undefined) throw new UsageError('say which service: generator, analyzer or reporter');
  if (more.length > 0) throw new UsageError(`one service at a time: "${more.join(' ')}" is too much`);
  const name = (Object.keys(SERVICES) as ServiceName[]).find((key) => key === service || SERVICES[key].id === service);
  if (name === undefined) throw new UsageError(`"${service}" is not a service: generator, analyzer or reporter`);
  return {
    service: name,
    port: values.port === undefined ? SERVICES[name].defaultPort : wholeNumber('--port', values.port, 65_535),
    host: values.host ?? '127.0.0.1',
    delayMs:
      values['delay-ms'] === undefined
        ? wholeNumber('ENERGY_DELAY_MS', environment.ENERGY_DELAY_MS || '0', MAX_DELAY_MS)
        : wholeNumber('--delay-ms', values['delay-ms'], MAX_DELAY_MS),
    stopWithStdin: values['stop-with-stdin'] ?? false,
  };
}

const MAX_DELAY_MS = 3_600_000;

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        port: { type: 'string' },
        host: { type: 'string' },
        'delay-ms': { type: 'string' },
        'stop-with-stdin': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function wholeNumber(name: string, text: string, max: number): number {
  if (/^\d{1,9}$/.test(text) && Number(text) <= max) return Number(text);
  throw new UsageError(`${name} must be a whole number from 0 to ${max}, but is "${text}"`);
}
