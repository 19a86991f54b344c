import { PLACEMENTS, STRATEGIES } from '@baton/domain';
import { DEFAULT_SETTINGS, type EngineSettings } from '@baton/engine';

/** What a master is told at its start, by the environment. Read once, checked, frozen. */
export interface MasterConfig {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Null: start the embedded Postgres. */
  readonly databaseUrl: string | null;
  /** Where the embedded Postgres keeps its data, and other things of this installation. */
  readonly home: string;
  /** Where the bytes of blobs are kept; null: in Postgres. One directory for all masters of a database. */
  readonly blobDirectory: string | null;
  readonly logDir: string;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  /** Whether answers from 1 KiB on are compressed for those who ask for it. */
  readonly compressAnswers: boolean;
  /** Pages of these exact origins may call the API. */
  readonly corsOrigins: readonly string[];
  readonly settings: EngineSettings;
}

/** All that is wrong with the environment, at once. */
export class ConfigProblems extends Error {
  override readonly name = 'ConfigProblems';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** @throws ConfigProblems */
export function readConfig(env: Record<string, string | undefined>): MasterConfig {
  const problems: string[] = [];
  const whole = (name: string, fallback: number, min: number, max: number): number => {
    const text = env[name];
    if (text === undefined || text === '') return fallback;
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    problems.push(`${name}=${text}: must be a whole number from ${min} to ${max}`);
    return fallback;
  };
  const oneOf = <Word extends string>(name: string, words: readonly Word[], fallback: Word): Word => {
    const text = env[name] || fallback;
    const word = words.find((known) => known === text);
    if (word === undefined) problems.push(`${name}=${text}: must be one of ${words.join(', ')}`);
    return word ?? fallback;
  };
  const host = env.BATON_HOST || '127.0.0.1';
  const port = whole('BATON_PORT', 7800, 0, 65_535);
  const leaseTtlMs = whole('BATON_LEASE_TTL_MS', DEFAULT_SETTINGS.leaseTtlMs, 1_000, 3_600_000);
  const heartbeatIntervalMs = whole(
    'BATON_HEARTBEAT_MS',
    Math.min(DEFAULT_SETTINGS.heartbeatIntervalMs, Math.floor(leaseTtlMs / 3)),
    100,
    600_000,
  );
  if (heartbeatIntervalMs * 2 > leaseTtlMs)
    problems.push(
      `BATON_HEARTBEAT_MS=${heartbeatIntervalMs}: at most half of the lease (${leaseTtlMs} ms), or a single late heartbeat loses it`,
    );
  const logLevel = env.BATON_LOG_LEVEL || 'info';
  if (!['debug', 'info', 'warn', 'error'].includes(logLevel))
    problems.push(`BATON_LOG_LEVEL=${logLevel}: must be debug, info, warn or error`);
  const compression = env.BATON_COMPRESSION || 'auto';
  if (!['auto', 'gzip', 'none'].includes(compression))
    problems.push(`BATON_COMPRESSION=${compression}: must be auto, gzip or none`);
  const databaseUrl = env.DATABASE_URL || null;
  if (databaseUrl !== null && !/^postgres(ql)?:\/\//.test(databaseUrl))
    problems.push('DATABASE_URL: must begin with postgres:// or postgresql://');
  const corsOrigins = (env.BATON_CORS_ORIGINS ?? '')
    .split(',')
    .map((o) => o.trim())
    .filter(Boolean);
  for (const origin of corsOrigins)
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      problems.push(`BATON_CORS_ORIGINS: ${origin} is not an origin such as http://localhost:5173`);
  const settings: EngineSettings = Object.freeze({
    ...DEFAULT_SETTINGS,
    leaseTtlMs,
    heartbeatIntervalMs,
    longPollMs: whole('BATON_LONG_POLL_MS', DEFAULT_SETTINGS.longPollMs, 100, 300_000),
    maxBlobBytes: whole('BATON_MAX_BLOB_BYTES', DEFAULT_SETTINGS.maxBlobBytes, 1_024, DEFAULT_SETTINGS.maxBlobBytes),
    maxArtifactBytes: whole('BATON_MAX_ARTIFACT_BYTES', DEFAULT_SETTINGS.maxArtifactBytes, 1_024, 1024 ** 4),
    checkpointKeep: whole('BATON_CHECKPOINT_KEEP', DEFAULT_SETTINGS.checkpointKeep, 1, 10_000),
    drainGraceMs: whole('BATON_DRAIN_GRACE_MS', DEFAULT_SETTINGS.drainGraceMs, 0, 3_600_000),
    breaker: {
      failures: whole('BATON_BREAKER_FAILURES', DEFAULT_SETTINGS.breaker.failures, 1, 1_000),
      windowMs: whole('BATON_BREAKER_WINDOW_MS', DEFAULT_SETTINGS.breaker.windowMs, 1_000, 86_400_000),
      openMs: whole('BATON_BREAKER_OPEN_MS', DEFAULT_SETTINGS.breaker.openMs, 100, 86_400_000),
      soleOpenMs: whole('BATON_BREAKER_SOLE_OPEN_MS', DEFAULT_SETTINGS.breaker.soleOpenMs, 100, 86_400_000),
      successes: whole('BATON_BREAKER_SUCCESSES', DEFAULT_SETTINGS.breaker.successes, 1, 1_000),
    },
    strategy: oneOf('BATON_STRATEGY', STRATEGIES, DEFAULT_SETTINGS.strategy),
    placement: oneOf('BATON_PLACEMENT', PLACEMENTS, DEFAULT_SETTINGS.placement),
    historyDays: whole('BATON_HISTORY_DAYS', DEFAULT_SETTINGS.historyDays, 1, 36_500),
    // Short leases are swept as much more often: else a sweep that comes a little late would look like an outage.
    sweepIntervalMs: whole(
      'BATON_SWEEP_MS',
      Math.min(DEFAULT_SETTINGS.sweepIntervalMs, Math.floor(leaseTtlMs / 10)),
      50,
      60_000,
    ),
  });
  if (problems.length > 0) throw new ConfigProblems(problems);
  return Object.freeze({
    host,
    port,
    databaseUrl,
    home: env.BATON_HOME || '.baton',
    blobDirectory: env.BATON_BLOB_DIRECTORY || null,
    logDir: env.LOG_DIR || 'logs',
    logLevel: logLevel as MasterConfig['logLevel'],
    compressAnswers: compression !== 'none',
    corsOrigins,
    settings,
  });
}
