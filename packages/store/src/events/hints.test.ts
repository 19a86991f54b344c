import { startFaultProxy } from '@baton/testkit';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type HintChannelOptions, openHintChannel } from './hints.ts';

let db: MigratedDatabase;

beforeAll(async () => {
  db = await migratedDatabase();
});
afterAll(() => db.drop());

function open(url = db.url, options?: HintChannelOptions) {
  const heard: string[] = [];
  const lost: string[] = [];
  let begun = 0;
  const channel = openHintChannel(url, { onLost: (why) => lost.push(why), ...options });
  onTestFinished(() => channel.end());
  channel.listen(
    (payload) => heard.push(payload),
    () => begun++,
  );
  return { channel, heard, lost, begun: () => begun };
}

const listeners = () =>
  db.sql.unsafe(
    `select pid from pg_stat_activity where datname = current_database() and application_name = 'baton listen'`,
  );
const soon = { timeout: 15_000, interval: 20 };

it('hands a payload to everybody who listens, of this database and no other', async () => {
  await using elsewhere = await migratedDatabase();
  const [one, two, far] = [open(), open(), open(elsewhere.url)];
  await vi.waitFor(() => expect([one.begun(), two.begun(), far.begun()]).toEqual([1, 1, 1]), soon);
  const long = 'x'.repeat(7_900);
  await one.channel.notify('{"m":"one"}');
  await two.channel.notify(long);
  await vi.waitFor(
    () =>
      expect([one.heard, two.heard]).toEqual([
        ['{"m":"one"}', long],
        ['{"m":"one"}', long],
      ]),
    soon,
  );
  expect(far.heard).toEqual([]);
});

it('listens again when its connection is ended, again and again, also while the server refuses connections', async () => {
  const { channel, heard, lost, begun } = open();
  await vi.waitFor(() => expect(begun()).toBe(1), soon);
  for (let round = 2; round < 5; round++) {
    const [{ pid }] = (await listeners()) as unknown as [{ pid: number }];
    await db.sql.unsafe('select pg_terminate_backend($1)', [pid]);
    await vi.waitFor(() => expect(begun()).toBe(round), soon);
    await channel.notify(`round ${round}`);
    await vi.waitFor(() => expect(heard).toContain(`round ${round}`), soon);
  }
  expect(lost.length).toBeGreaterThanOrEqual(3);
  expect((await listeners()).length).toBe(1);
});

it('finds out that nobody is at the other end any more, and listens again once there is a way', async () => {
  const target = new URL(db.url);
  await using proxy = await startFaultProxy({
    target: { host: target.hostname, port: Number(target.port) },
    protocol: 'postgres',
  });
  const url = new URL(db.url);
  url.hostname = '127.0.0.1';
  url.port = String(proxy.port);
  const deaf = open(url.href, { checkEveryMs: 200, answerMs: 500 });
  const speaker = open();
  await vi.waitFor(() => expect([deaf.begun(), speaker.begun()]).toEqual([1, 1]), soon);
  // Half-open: no end, no error, no bytes.
  proxy.blackHole({ newToo: true });
  await speaker.channel.notify('into the hole');
  await vi.waitFor(() => expect(deaf.lost.length).toBeGreaterThan(1), soon);
  expect(deaf.lost[0]).toBe('no answer');
  expect(deaf.begun()).toBe(1);
  proxy.heal();
  await vi.waitFor(() => expect(deaf.begun()).toBe(2), soon);
  await speaker.channel.notify('heard again');
  await vi.waitFor(() => expect(deaf.heard).toEqual(['heard again']), soon);
});

it('ends for good', async () => {
  const { channel, heard, begun } = open();
  await vi.waitFor(() => expect(begun()).toBe(1), soon);
  await channel.end();
  await vi.waitFor(async () => expect(await listeners()).toHaveLength(0), soon);
  const other = open();
  await vi.waitFor(() => expect(other.begun()).toBe(1), soon);
  await other.channel.notify('for nobody');
  await vi.waitFor(() => expect(other.heard).toEqual(['for nobody']), soon);
  expect(heard).toEqual([]);
});
