import { eventTypeNames } from '@baton/client';
import { EventType } from '@baton/contract';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';
import { EVENT_TYPES } from './events-flags.ts';

test('the types of the flag are those of the contract', () => {
  expect(EVENT_TYPES).toEqual(eventTypeNames);
});

test('events: a line each for people, an object each for programs, the cursor where it stands', async () => {
  const { baton, fake } = await commandLine();
  const event = (type: EventType, more: object) => ({ event: { type, time: timestampFromMs(1_000), ...more } });
  fake.addEvents({
    events: [
      event(EventType.TASK_LEASED, { taskId: '7', attempt: 2, worker: 'w\u001b[31m1' }),
      event(EventType.BREAKER_OPENED, { worker: 'w1' }),
    ],
    cursor: 'a.1.2',
  });
  const people = await baton(['events', '-n', '2']);
  expect(people.exitCode).toBe(0);
  expect(people.stdout).toMatch(/ task leased +task 7 {2}attempt 2 {2}worker w1\n.* breaker opened +worker w1\n$/);
  const lines = (await baton(['events', '-n', '2', '-o', 'json'])).stdout.trim().split('\n');
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { type: 'task_leased', taskId: '7' },
    { type: 'breaker_opened', cursor: 'a.1.2' },
  ]);
  expect(JSON.parse(lines[0]!)).not.toHaveProperty('cursor');
});

test('events takes one beginning, and words that exist', async () => {
  const { baton } = await commandLine();
  expect((await baton(['events', '--since', '1h', '--cursor', 'x'])).exitCode).toBe(64);
  expect((await baton(['events', '--since', 'yesterday'])).exitCode).toBe(64);
  expect((await baton(['events', '--type', 'task_exploded'])).exitCode).toBe(64);
});
