import { expect, test } from 'vitest';
import { readConfig } from './config.ts';

test('the edge needs a database and nothing else', () => {
  const databaseUrl = 'postgres://baton@db/baton';
  expect(readConfig({ DATABASE_URL: databaseUrl })).toEqual({
    databaseUrl,
    pooled: false,
    streamMs: 30_000,
    port: 7802,
  });
  expect(readConfig({ DATABASE_URL: databaseUrl, BATON_DATABASE_POOLED: '1', BATON_PORT: '0' })).toMatchObject({
    pooled: true,
    port: 0,
  });
});

test('everything that is wrong is said at once', () => {
  expect(() => readConfig({})).toThrow('DATABASE_URL: set it');
  const wrong = {
    DATABASE_URL: 'mysql://db',
    BATON_DATABASE_POOLED: 'yes',
    BATON_STREAM_MS: 'long',
    BATON_PORT: '70000',
  };
  expect(() => readConfig(wrong)).toThrow(
    /DATABASE_URL: must.*\nBATON_DATABASE_POOLED=yes.*\nBATON_STREAM_MS=long.*\nBATON_PORT=70000/,
  );
});
