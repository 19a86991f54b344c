import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { usageError } from './exit.ts';

/** Where a setting's value came from. */
export type SettingSource = 'default' | 'env' | 'file' | 'flag';

export interface Setting<T = string> {
  readonly value: T;
  readonly source: SettingSource;
  /** The variable, file or flag that said so; '' for a default. */
  readonly from: string;
}

/** All that the command reads from its surroundings, read once. */
export interface CliConfig {
  /** Where Baton is. BATON_URL; else the address that `baton up` left in BATON_HOME; else BATON_PORT on this machine. */
  readonly url: Setting;
  /** BATON_NAMESPACE. */
  readonly namespace: Setting;
  /** The port that a master started here listens on. BATON_PORT; 0 is any that is free. */
  readonly port: Setting<number>;
  /** Where Baton keeps its data on this machine. BATON_HOME. */
  readonly home: Setting;
  /** BATON_COMPRESSION: auto (unless Baton is on this machine), gzip or none. */
  readonly compression: Setting<Compression>;
  /** LOG_DIR. */
  readonly logDir: Setting;
  /** BATON_LOG_LEVEL. */
  readonly logLevel: Setting<LogLevel>;
  /** DATABASE_URL; empty is the embedded Postgres. A secret: shown by `shownValue` only. */
  readonly databaseUrl: Setting;
}

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const COMPRESSIONS = ['auto', 'gzip', 'none'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the environment and the file of `baton up`. Throws a usage failure that names the variable which is wrong. */
export function readConfig(env: Environment): CliConfig {
  const setting = (name: string, fallback: string): Setting => {
    const value = env[name];
    return value === undefined || value === ''
      ? { value: fallback, source: 'default', from: '' }
      : { value, source: 'env', from: name };
  };
  const port = portOf(setting('BATON_PORT', '7800'));
  const home = setting('BATON_HOME', '.baton');
  const logLevel = setting('BATON_LOG_LEVEL', 'info');
  if (!LOG_LEVELS.includes(logLevel.value as LogLevel)) {
    throw usageError(`BATON_LOG_LEVEL is "${logLevel.value}"; it must be one of ${LOG_LEVELS.join(', ')}`);
  }
  const compression = setting('BATON_COMPRESSION', 'auto');
  if (!COMPRESSIONS.includes(compression.value as Compression)) {
    throw usageError(`BATON_COMPRESSION is "${compression.value}"; it must be one of ${COMPRESSIONS.join(', ')}`);
  }
  return Object.freeze({
    url: urlOf(setting('BATON_URL', ''), port, home.value),
    namespace: setting('BATON_NAMESPACE', 'default'),
    port,
    home,
    compression: compression as Setting<Compression>,
    logDir: setting('LOG_DIR', 'logs'),
    logLevel: logLevel as Setting<LogLevel>,
    databaseUrl: setting('DATABASE_URL', ''),
  });
}

/** The configuration with what flags say in its place. Throws a usage failure for a url that is none. */
export function withFlags(config: CliConfig, flags: { readonly url?: string; readonly namespace?: string }): CliConfig {
  const { url, namespace } = flags;
  return Object.freeze({
    ...config,
    ...(url !== undefined && { url: { value: checkedUrl(url, '--url'), source: 'flag', from: '--url' } as const }),
    ...(namespace !== undefined && {
      namespace: { value: namespace, source: 'flag', from: '--namespace' } as const,
    }),
  });
}

/** Where the embedded Postgres keeps its data, below BATON_HOME. */
export function postgresDataDir(home: string): string {
  return join(home, 'postgres', 'data');
}

/** A setting's value as it may be shown: without a password. */
export function shownValue(name: keyof CliConfig, value: string | number): string {
  if (name !== 'databaseUrl' || value === '') return String(value);
  try {
    const url = new URL(String(value));
    if (url.password !== '') url.password = '***';
    if (url.searchParams.has('password')) url.searchParams.set('password', '***');
    return url.href;
  } catch {
    return '*** (not a URL)';
  }
}

function portOf(setting: Setting): Setting<number> {
  const port = Number(setting.value);
  if (!/^[0-9]{1,5}$/.test(setting.value) || port > 65_535) {
    throw usageError(`BATON_PORT is "${setting.value}"; it must be a number from 0 to 65535`);
  }
  return { ...setting, value: port };
}

function urlOf(setting: Setting, port: Setting<number>, home: string): Setting {
  if (setting.source === 'env') return { ...setting, value: checkedUrl(setting.value, setting.from) };
  // A port that was asked for is meant; 0 says nothing about where the master is.
  if (port.source === 'env' && port.value !== 0) {
    return { value: `http://127.0.0.1:${port.value}`, source: 'env', from: port.from };
  }
  const file = join(home, 'up.json');
  const url = urlInFile(file);
  if (url !== undefined) return { value: url, source: 'file', from: file };
  return { value: 'http://127.0.0.1:7800', source: 'default', from: '' };
}

/** The address that `baton up` wrote. A file that is missing or half written counts for nothing. */
function urlInFile(file: string): string | undefined {
  try {
    const { url } = JSON.parse(readFileSync(file, 'utf8')) as { url?: unknown };
    return typeof url === 'string' ? checkedUrl(url, file) : undefined;
  } catch {
    return undefined;
  }
}

function checkedUrl(text: string, from: string): string {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw usageError(`${from} is "${text}"; it must be a URL such as http://127.0.0.1:7800`);
  }
  return text.replace(/\/+$/, '');
}

/** Sets variables of this process, for a main module of another program that is about to run in it and reads them. */
export function setVariables(variables: Environment): void {
  Object.assign(process.env, variables);
}
