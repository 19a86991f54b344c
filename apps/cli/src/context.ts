import type { Baton } from '@baton/client';
import type { CommandContext, StricliProcess } from '@stricli/core';
import { type CliConfig, type Compression, type Environment, readConfig, withFlags } from './config.ts';
import { type OutputStream, Screen } from './terminal/screen.ts';

/** Makes a client. Async, so that its code is loaded only by commands that call a server. */
export type ClientFactory = (options: {
  readonly url: string;
  readonly namespace: string;
  readonly compression: Compression;
}) => Promise<Baton>;

/** What a line in the command's own log says. */
export type LogFields = Readonly<Record<string, unknown>>;

/** What a command is run with; `this` in every command. */
export interface CliContext extends CommandContext {
  readonly process: StricliProcess;
  readonly env: Environment;
  readonly screen: Screen;
  /** Read at first use. Throws a usage failure for a wrong variable. */
  readonly config: CliConfig;
  /** Aborted by Ctrl-C where a test wants it; commands hand it on. */
  readonly signal: AbortSignal | undefined;
  readonly now: () => number;
  /** A client for what the configuration and the flags name. */
  connect(flags: ConnectionFlags): Promise<Baton>;
  /** What the last `connect` named, for messages about it. */
  readonly connection: CliConfig | undefined;
  /** Says that this command changes something: it leaves a line in the log, with these fields. */
  record(fields: LogFields): void;
  readonly recorded: LogFields | undefined;
}

/** The flags of every command that calls a server. */
export interface ConnectionFlags {
  readonly url?: string;
  readonly namespace?: string;
}

export interface ContextOptions {
  readonly env: Environment;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly createClient?: ClientFactory;
  readonly signal?: AbortSignal;
  readonly now?: () => number;
}

export function createContext(options: ContextOptions): CliContext {
  const { env, stdout, stderr, createClient = createFetchClient } = options;
  const noColor = (env.NO_COLOR ?? '') !== '';
  let config: CliConfig | undefined;
  let connection: CliConfig | undefined;
  let recorded: LogFields | undefined;
  return {
    process: { stdout: forStricli(stdout), stderr: forStricli(stderr), env },
    env,
    screen: new Screen({ stdout, stderr, noColor, isDumb: env.TERM === 'dumb' }),
    get config() {
      config ??= readConfig(env);
      return config;
    },
    signal: options.signal,
    now: options.now ?? Date.now,
    async connect(flags) {
      connection = withFlags(this.config, flags);
      const { url, namespace, compression } = connection;
      return createClient({ url: url.value, namespace: namespace.value, compression: compression.value });
    },
    get connection() {
      return connection;
    },
    record(fields) {
      recorded = { ...recorded, ...fields };
    },
    get recorded() {
      return recorded;
    },
  };
}

const createFetchClient: ClientFactory = async (options) => {
  const { createBaton } = await import('@baton/client');
  // Someone waits before the terminal: two tries tell whether a server is there.
  return createBaton({ ...options, retry: { attempts: 2 } });
};

function forStricli(stream: OutputStream): StricliProcess['stdout'] {
  return {
    write: (text) => void stream.write(text),
    // Without a terminal there are no colours, whatever the stream thinks.
    getColorDepth: (env) => (stream.isTTY ? (stream.getColorDepth?.(env) ?? 1) : 1),
  };
}
