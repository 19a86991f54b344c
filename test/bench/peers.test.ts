import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import { noRedis } from './peers/redis.ts';
import type { Report } from './report.ts';

const timeout = 120_000;

async function measured(...argv: string[]): Promise<Report> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const args = [main, ...argv, '-o', 'json', '--reps', '1', '--postgres', inject('postgresUrl')];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr, { cause: error })) : resolve(JSON.parse(stdout) as Report),
    );
  });
}

const REDIS = noRedis() === null ? ['bullmq'] : [];
const whoOf = (report: Report) => [...new Set(report.results.map(({ shape }) => shape.who))];

test('drain has each peer take all of the same number of jobs, and says how Baton compares', { timeout }, async () => {
  const peers = ['graphile', 'graphile:tuned', 'pgboss:one', 'pgboss:batch', 'dbos:tuned', 'bullmq'];
  const report = await measured(
    'drain',
    '--tasks',
    '200',
    '--concurrency',
    '4',
    '--workers',
    '1',
    '--peers',
    peers.join(),
  );
  const there = peers.filter((peer) => peer !== 'bullmq' || REDIS.length > 0);
  expect(whoOf(report)).toEqual(['baton', ...there, 'ratio']);
  expect(report.notRun.map(({ who }) => who)).toEqual(peers.filter((peer) => !there.includes(peer)));
  for (const { shape, figures, runs } of report.results) {
    if (shape.who === 'ratio') expect(figures.times!.median, String(shape.baton_to)).toBeGreaterThan(0);
    else {
      expect(figures.tasks_per_second!.min, String(shape.who)).toBeGreaterThan(0);
      expect(runs).toEqual([
        expect.objectContaining(shape.who === 'baton' ? { tasks: 200 } : { tasks: 200, done: 200 }),
      ]);
    }
  }
});

test('submit, latency and backlog measure a peer as they measure Baton', { timeout }, async () => {
  const submit = await measured('submit', '--seconds', '0.1', '--peers', 'pgboss');
  expect(submit.results.map(({ shape }) => `${shape.who} ${shape.way} ${shape.at_once}`)).toEqual([
    ...['grpc 1', 'grpc 16', 'grpc 128', 'sdk 1', 'sdk 16', 'sdk 128', 'bulk 1'].map((way) => `baton ${way}`),
    ...['api 1', 'api 16', 'api 128', 'bulk 1'].map((way) => `pgboss ${way}`),
    // Both of Baton's ways of one at once beside the peer's.
    ...['grpc 1', 'sdk 1', 'grpc 16', 'sdk 16', 'grpc 128', 'sdk 128', 'bulk 1'].map((way) => `ratio ${way}`),
  ]);
  const latency = await measured('latency', '--seconds', '1', '--load', '200', '--peers', 'graphile');
  expect(whoOf(latency)).toEqual(['baton', 'graphile', 'ratio']);
  for (const { shape, figures } of latency.results)
    if (shape.who !== 'ratio') expect(figures.start_p50_ms!.min, String(shape.who)).toBeGreaterThan(0);
  const backlog = await measured('backlog', '--tasks', '3000', '--peers', 'graphile:tuned');
  expect(backlog.results.map(({ shape }) => shape.who)).toEqual(['baton', 'graphile:tuned', 'ratio']);
});

test('a peer that does not exist, or is not used in this way, is refused with what there is', { timeout }, async () => {
  await expect(measured('drain', '--peers', 'sidekiq')).rejects.toThrow('graphile, pgboss, dbos, bullmq');
  await expect(measured('drain', '--peers', 'graphile:fast')).rejects.toThrow('default, tuned');
});
