import { createIdMaker } from '@baton/domain';
import type { HintChannel, Pools, Sql } from '@baton/store';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { EngineEnvironment } from '../environment.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { createHints, type HintSinks } from './hints.ts';

/** Masters on one channel in memory. */
function open(masters: number) {
  const sent: string[] = [];
  const listeners: ((payload: string) => void)[] = [];
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const sql = { unsafe: async () => [] } as unknown as Sql;
  const pools = { hot: sql, lease: sql, api: sql, end: async () => {} } as Pools;
  const ids = createIdMaker(1, () => 1_700_000_000_000);
  const all = Array.from({ length: masters }, (_, n) => {
    const heard: unknown[] = [];
    const channel: HintChannel = {
      async notify(payload) {
        sent.push(payload);
        for (const listener of listeners) listener(payload);
      },
      listen(onPayload, onListening) {
        listeners.push(onPayload);
        onListening();
      },
      end: async () => {},
    };
    const sinks: HintSinks = {
      onLanes: (lanes) => heard.push(['lanes', ...lanes]),
      onOrders: (sessions) => heard.push(['orders', ...sessions]),
      onEnded: (tasks) => heard.push(['ended', ...(tasks ?? ['all'])]),
      onRuns: () => heard.push(['runs']),
      onChanged: () => heard.push(['changed']),
      onGap: () => heard.push(['gap']),
    };
    const env: EngineEnvironment = {
      pools,
      ids,
      settings: DEFAULT_SETTINGS,
      now: () => Date.now(),
      random: () => (n + 1) / 10,
      log: silentLog,
    };
    return { hints: createHints(env, channel, sinks), heard };
  });
  const speak = (payload: string) => {
    for (const listener of listeners) listener(payload);
  };
  return { masters: all, sent, speak };
}

async function begin(stage: ReturnType<typeof open>): Promise<void> {
  for (const { hints, heard } of stage.masters) {
    hints.start();
    hints.living(stage.masters.length);
    heard.length = 0;
  }
  for (const { heard } of stage.masters) heard.length = 0;
  stage.sent.length = 0;
}

test('what happens within 20 ms goes in one message, and only the others hear it', async () => {
  const stage = open(3);
  await begin(stage);
  const [one, two, three] = stage.masters;
  for (let n = 0; n < 50; n++) one!.hints.lane(n % 3);
  one!.hints.orders('12');
  one!.hints.ended('249942799581974528');
  one!.hints.ended('9223372036854775807');
  await vi.advanceTimersByTimeAsync(19);
  expect(stage.sent).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(stage.sent).toHaveLength(1);
  expect(one!.heard).toEqual([]);
  const expected = [
    ['lanes', 0, 1, 2],
    ['orders', '12'],
    ['ended', '249942799581974528', '9223372036854775807'],
    ['changed'],
  ];
  expect(two!.heard).toEqual(expected);
  expect(three!.heard).toEqual(expected);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(stage.sent).toHaveLength(1);
});

test('a flood stays below 8 000 bytes a message and one message in 20 ms; who waits is told to look', async () => {
  const stage = open(2);
  await begin(stage);
  const [one, two] = stage.masters;
  for (let n = 0; n < 5_000; n++) {
    one!.hints.ended(String(249_942_799_581_974n * 1000n + BigInt(n)));
    one!.hints.lane(1_000_000 + n);
    one!.hints.orders(String(10n ** 18n + BigInt(n)));
  }
  await vi.advanceTimersByTimeAsync(10_000);
  expect(Math.max(...stage.sent.map((payload) => payload.length))).toBeLessThan(8_000);
  expect(stage.sent.length).toBeLessThan(100);
  const of = (what: string) => (two!.heard as [string, ...unknown[]][]).filter(([kind]) => kind === what);
  expect(of('ended')).toEqual([['ended', 'all']]);
  expect(of('lanes').flatMap(([, ...lanes]) => lanes)).toHaveLength(5_000);
  expect(of('orders').flatMap(([, ...sessions]) => sessions)).toHaveLength(5_000);
});

test('a master that is alone says nothing, and is told at once when another comes', async () => {
  const stage = open(2);
  const [one, two] = stage.masters;
  one!.hints.start();
  one!.hints.living(1);
  stage.sent.length = 0;
  one!.hints.lane(1);
  one!.hints.ended('12');
  await vi.advanceTimersByTimeAsync(1_000);
  expect(stage.sent).toEqual([]);
  two!.hints.start();
  two!.heard.length = 0;
  one!.hints.lane(2);
  await vi.advanceTimersByTimeAsync(20);
  expect(two!.heard).toEqual([['lanes', 2]]);
  one!.hints.living(1);
  one!.hints.lane(3);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(two!.heard).toHaveLength(1);
});

test('everybody who waits is woken by nameless hints twice a second at most; nonsense wakes nobody', async () => {
  const stage = open(1);
  await begin(stage);
  const { heard } = stage.masters[0]!;
  for (let n = 0; n < 50; n++) {
    stage.speak('{"m":"x","e":"*"}');
    await vi.advanceTimersByTimeAsync(20);
  }
  expect(heard.length).toBeGreaterThanOrEqual(2);
  expect(heard.length).toBeLessThanOrEqual(3);
  heard.length = 0;
  for (const payload of [
    '',
    'no',
    'null',
    '[]',
    '{}',
    '{"m":"x","l":["a"]}',
    '{"m":"x","l":{}}',
    '{"m":"x","s":["1;drop"]}',
    '{"m":"x","e":"A B"}',
  ])
    stage.speak(payload);
  expect(heard).toEqual([]);
});
