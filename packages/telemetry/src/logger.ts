import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DestinationStream, destination, multistream, type Logger as Pino, pino, stdTimeFunctions } from 'pino';
import { formatForPeople } from './format-for-people.ts';
import { Turn } from './turn.ts';

/** What is said about a line besides its message: task_id, attempt, lease_epoch, run_id, worker_id, queue, error, … */
export type LogFields = Readonly<Record<string, unknown>>;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/**
 * A log of constant messages with fields: the message never carries data, so that lines can be counted and searched by it.
 * A field named `error` is written as `{ type, message, code, stack }`.
 */
export interface Logger {
  /** Whether debug lines are written: ask before making fields for a line per task. */
  readonly debugEnabled: boolean;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds these fields to each of its lines. */
  child(fields: LogFields): Logger;
  /** Resolves when what was logged until now is in the file. */
  flush(): Promise<void>;
}

export interface LoggerOptions {
  /** Names the component, and the file: `<logDir>/<name>.jsonl`. Characters that no file name should have become `_`. */
  readonly name: string;
  /** The least level that is written. Default `info`. */
  readonly level?: LogLevel;
  /** Directory of the JSON lines; made when it is missing. Without it no file is written. */
  readonly logDir?: string;
  /** Where lines for people go. Default stderr; `null` for nowhere. */
  readonly people?: { write(text: string): unknown } | null;
}

/** Opens a log. Throws the system's error (EACCES, ENOTDIR, …) when the directory cannot be made or written. */
export function createLogger(options: LoggerOptions): Logger {
  const level = options.level ?? 'info';
  const streams: { level: LogLevel; stream: DestinationStream }[] = [];
  const turn = new Turn();
  let file: ReturnType<typeof destination> | undefined;
  if (options.logDir !== undefined) {
    mkdirSync(options.logDir, { recursive: true });
    const dest = join(options.logDir, `${options.name.replaceAll(/[^A-Za-z0-9._-]/g, '_')}.jsonl`);
    // Synchronous: a process that is killed has written what it logged before this turn.
    const opened = destination({ dest, sync: true, append: true });
    file = opened;
    streams.push({ level, stream: turn.gather((lines) => void opened.write(lines.join(''))) });
  }
  const people = options.people === undefined ? standardError() : options.people;
  if (people !== null) {
    const write = (lines: readonly string[]) => void people.write(lines.map(formatForPeople).join(''));
    streams.push({ level, stream: turn.gather(write) });
  }
  const base = pino(
    {
      level,
      base: { name: options.name, pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: describeError },
    },
    multistream(streams),
  );
  return wrap(base, turn, async () => {
    turn.end();
    await new Promise<void>((resolve, reject) => {
      if (file === undefined) {
        resolve();
      } else {
        file.flush((error) => (error == null ? resolve() : reject(error)));
      }
    });
  });
}

let stderrIsGone: boolean | undefined;

/**
 * stderr, until nobody reads it any more. Whoever started the process may go before it does; a line that cannot be written
 * must neither end the process nor be logged, in turn, without end.
 */
function standardError(): { write(text: string): unknown } {
  if (stderrIsGone === undefined) {
    stderrIsGone = false;
    process.stderr.on('error', () => {
      stderrIsGone = true;
    });
  }
  return { write: (text) => stderrIsGone || process.stderr.write(text) };
}

/** A logger that writes nothing: for tests, and for those who embed a worker and want it quiet. */
export const silentLogger: Logger = {
  debugEnabled: false,
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
  flush: async () => {},
};

function wrap(inner: Pino, turn: Turn, flush: () => Promise<void>): Logger {
  return {
    debugEnabled: inner.isLevelEnabled('debug'),
    debug: (message, fields) => inner.debug(fields ?? {}, message),
    info: (message, fields) => inner.info(fields ?? {}, message),
    // What may be the last that is heard of a process is written at once.
    warn: (message, fields) => {
      inner.warn(fields ?? {}, message);
      turn.end();
    },
    error: (message, fields) => {
      inner.error(fields ?? {}, message);
      turn.end();
    },
    child: (fields) => wrap(inner.child(fields), turn, flush),
    flush,
  };
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) {
    return error;
  }
  const code = 'code' in error ? error.code : undefined;
  const cause = error.cause === undefined ? undefined : describeError(error.cause);
  return { type: error.name, message: error.message, code, stack: error.stack, cause };
}
