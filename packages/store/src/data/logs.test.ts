import { afterAll, beforeAll, expect, it } from 'vitest';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { scene } from '../database/scene.fixture.ts';
import { appendLogs, type NewLogLine, readLogs } from './logs.ts';

let db: MigratedDatabase;
beforeAll(async () => {
  db = await migratedDatabase();
});
afterAll(() => db.drop());

it('keeps the lines of those that held the lease, and says of each other line in the batch that it is refused', async () => {
  const { sql } = db;
  const stage = scene(sql);
  const lane = await stage.lane('logs');
  const [own, foreign] = [await stage.session('own'), await stage.session('foreign')];
  await stage.submit(lane, 2);
  const [held, ended] = await stage.claim(lane, own, 2);
  await stage.complete([ended!]);
  const line = (sessionId: string, grant: { taskId: string; epoch: number }, n: number): NewLogLine => ({
    sessionId,
    taskId: grant.taskId,
    epoch: grant.epoch,
    attempt: 1,
    sequence: String(n),
    atMs: Date.now(),
    stream: 'log',
    text: `line ${n}`,
  });
  const refused = await appendLogs(sql, [
    line(own, held!, 1),
    line(foreign, held!, 2),
    line(own, ended!, 3),
    line(own, { taskId: held!.taskId, epoch: 2 }, 4),
    line(own, held!, 5),
  ]);
  expect(refused).toEqual(new Set([1, 3]));
  const start = { epoch: 0, sequence: '0' };
  expect((await readLogs(sql, held!.taskId, start, 10)).map(({ text }) => text)).toEqual(['line 1', 'line 5']);
  expect((await readLogs(sql, ended!.taskId, start, 10)).map(({ text }) => text)).toEqual(['line 3']);
});
