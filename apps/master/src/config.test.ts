import { describe, expect, it } from 'vitest';
import { ConfigProblems, readConfig } from './config.ts';

describe('the master reads its environment', () => {
  it('needs nothing', () => {
    const config = readConfig({});
    expect(config).toMatchObject({ host: '127.0.0.1', port: 7800, databaseUrl: null, home: '.baton', logDir: 'logs' });
    expect(config.settings).toMatchObject({ leaseTtlMs: 30_000, heartbeatIntervalMs: 10_000 });
    expect(Object.isFrozen(config)).toBe(true);
    expect([config.blobDirectory, config.settings.maxBlobBytes, config.settings.checkpointKeep]).toEqual([
      null,
      104_857_600,
      5,
    ]);
    expect(config.settings.breaker).toEqual({
      failures: 3,
      windowMs: 3_600_000,
      openMs: 300_000,
      soleOpenMs: 10_000,
      successes: 2,
    });
  });

  it('says everything that is wrong at once', () => {
    const wrong = {
      BATON_PORT: '70000',
      BATON_BREAKER_FAILURES: '0',
      BATON_MAX_BLOB_BYTES: '104857601',
      BATON_CHECKPOINT_KEEP: '0',
      BATON_LEASE_TTL_MS: 'long',
      DATABASE_URL: 'mysql://x',
      BATON_CORS_ORIGINS: '*',
      BATON_LOG_LEVEL: 'loud',
    };
    try {
      readConfig(wrong);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigProblems);
      const text = (error as Error).message;
      for (const name of Object.keys(wrong)) expect(text).toContain(name);
    }
  });

  it('keeps heartbeats well inside a shortened lease', () => {
    expect(readConfig({ BATON_LEASE_TTL_MS: '3000' }).settings).toMatchObject({
      heartbeatIntervalMs: 1000,
      sweepIntervalMs: 300,
    });
    expect(() => readConfig({ BATON_LEASE_TTL_MS: '3000', BATON_HEARTBEAT_MS: '2000' })).toThrow(/BATON_HEARTBEAT_MS/);
  });
});
