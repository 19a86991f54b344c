import type { Lane, Sql } from '@baton/store';
import { expect, it } from 'vitest';
import { type EngineEnvironment, silentLog } from '../environment.ts';
import { createCounters } from '../metrics.ts';
import { createNodeNames, type NodeNames } from '../runs/node-names.ts';
import { DEFAULT_SETTINGS, type EngineSettings } from '../settings.ts';
import type { Ability } from './ability.ts';
import { createDispatcher } from './dispatcher.ts';
import type { LaneBook } from './lane-book.ts';

const ability: Ability = {
  namespaceId: 1,
  workerName: 'w',
  taskClasses: ['cpu_short'],
  tags: [],
  executors: ['function'],
  kinds: ['work'],
  queues: [],
  workerId: 1,
  protocolVersion: 2,
  memoryBytes: 0,
  cpus: 0,
  os: '',
  arch: '',
  hostname: '',
  slots: 1,
  tools: [],
  gpus: [],
  quarantinedDevices: [],
};

function lane(id: number): Lane {
  return {
    id,
    routeId: id,
    namespaceId: 1,
    queue: `q${id}`,
    kind: 'work',
    executor: 'function',
    taskClass: 'cpu_short',
    tags: [],
    needs: null,
    paused: false,
  };
}

type Breakers = Parameters<typeof createDispatcher>[3];
const ALL_CLOSED: Breakers = { stateOf: () => 'closed', mayProbe: () => false, noteProbe() {} };

/** A dispatcher over `ready` tasks with inputs of so many bytes, in Postgres's place; `asked` has the size of each claim. */
function scene(options: {
  ready: number;
  inputBytes: number;
  lanes?: number;
  settings?: Partial<EngineSettings>;
  breakers?: Breakers;
  /** Of a run; the epoch of each lease. */
  epochs?: number[];
  nodeNames?: NodeNames;
}) {
  const lanes = Array.from({ length: options.lanes ?? 1 }, (_, i) => lane(i + 1));
  const asked: number[] = [];
  const clock = { nowMs: 0 };
  let left = options.ready;
  const statements: string[] = [];
  const unsafe = async (text: string, [, count]: [string, number | string]) => {
    statements.push(/\/\* baton (.*?) \*\//.exec(text)![1]!);
    // A probe names its session there.
    if (text.includes('load specs')) return [];
    const wanted = typeof count === 'number' ? count : 1;
    asked.push(wanted);
    const granted = Math.min(wanted, left);
    left -= granted;
    return Array.from({ length: granted }, (_, i) => ({
      session_id: 's',
      task_id: String(left + i + 1),
      lane_id: 1,
      epoch: options.epochs?.[i] ?? 1,
      attempt: 1,
      max_attempts: 4,
      start_to_close_ms: '1000',
      run_id: options.epochs ? '7' : null,
      input_encoding: 1,
      input: new Uint8Array(options.inputBytes),
    }));
  };
  const env = {
    pools: { hot: { unsafe } as unknown as Sql },
    settings: { ...DEFAULT_SETTINGS, ...options.settings },
    random: () => 0.5,
    now: () => clock.nowMs,
    log: silentLog,
  } as unknown as EngineEnvironment;
  const book = {
    get: (id: number) => lanes[id - 1],
    all: () => lanes,
    planningOf: () => undefined,
  } as unknown as LaneBook;
  const unsent: string[] = [];
  const dispatcher = createDispatcher(
    env,
    book,
    createCounters(),
    options.breakers ?? ALL_CLOSED,
    (assignments) => unsent.push(...assignments.map((a) => a.taskId)),
    options.nodeNames,
  );
  dispatcher.armAll();
  let number = 0n;
  const offer = (free: number) => dispatcher.offer({ id: 's', ability }, ++number, free, 0);
  return { offer, asked, statements, dispatcher, unsent, clock };
}

it('puts no more bytes into an answer than a worker reads, and loses nothing of the rest', async () => {
  const { offer } = scene({ ready: 5, inputBytes: 1_000, settings: { batchBytes: 2_400 } });
  const answers = [];
  for (let i = 0; i < 3; i++) answers.push((await offer(10)).map((a) => a.taskId));
  expect(answers.map((ids) => ids.length)).toEqual([2, 2, 1]);
  expect(new Set(answers.flat()).size).toBe(5);
});

it('sends an input that is larger than that alone', async () => {
  const { offer } = scene({ ready: 2, inputBytes: 5_000, settings: { batchBytes: 2_400 } });
  expect(await offer(10)).toHaveLength(1);
  expect(await offer(10)).toHaveLength(1);
  expect(await offer(10)).toHaveLength(0);
});

it('claims deeper from one lane than from a few, each of which is locked that deep, and from many, which are not', async () => {
  const one = scene({ ready: 10_000, inputBytes: 10 });
  await one.offer(5_000);
  expect(one.asked).toEqual([DEFAULT_SETTINGS.claimRows]);
  const many = scene({ ready: 10_000, inputBytes: 10, lanes: 50 });
  await many.offer(5_000);
  expect(many.asked).toEqual([DEFAULT_SETTINGS.claimRows]);
  const few = scene({ ready: 10_000, inputBytes: 10, lanes: 4 });
  await few.offer(5_000);
  expect(few.asked).toEqual([DEFAULT_SETTINGS.batchRows]);
});

it('claims nothing for a worker whose breaker is open, and answers the urgent offer with nothing', async () => {
  const { offer, asked } = scene({ ready: 5, inputBytes: 1, breakers: { ...ALL_CLOSED, stateOf: () => 'open' } });
  expect(await offer(10)).toEqual([]);
  expect(asked).toEqual([]);
});

it('claims one probe for a worker whose breaker is half-open, and no second while that runs', async () => {
  let probing = false;
  const breakers: Breakers = {
    stateOf: () => 'half_open',
    mayProbe: () => !probing,
    noteProbe: () => {
      probing = true;
    },
  };
  const { offer, statements } = scene({ ready: 1, inputBytes: 1, breakers });
  expect(await offer(10)).toHaveLength(1);
  expect(await offer(10)).toEqual([]);
  expect(statements).toEqual(['claim probe']);
});

it('gives back at once what it was granted and can send no more, and sends what is young enough', async () => {
  const { offer, dispatcher, unsent, clock } = scene({ ready: 3, inputBytes: 1 });
  const granted = await offer(2);
  dispatcher.keep('s', granted);
  clock.nowMs = DEFAULT_SETTINGS.heartbeatIntervalMs - 1;
  expect(await offer(10)).toEqual(granted);
  dispatcher.keep('s', granted);
  clock.nowMs = DEFAULT_SETTINGS.heartbeatIntervalMs;
  expect((await offer(10)).map((a) => a.taskId)).toEqual(['1']);
  expect(unsent).toEqual(granted.map((a) => a.taskId));
});

it('gives back what it keeps for a session that asks no more', { timeout: 5_000 }, async () => {
  const { offer, dispatcher, unsent, clock } = scene({
    ready: 2,
    inputBytes: 1,
    settings: { heartbeatIntervalMs: 20 },
  });
  const granted = await offer(2);
  dispatcher.keep('s', granted);
  clock.nowMs = 20;
  await expect.poll(() => unsent).toEqual(granted.map((a) => a.taskId));
});

it('reads of a task of a run nothing that its step has said here, unless it was leased before', async () => {
  const stored = (...ids: string[]) => {
    const names = createNodeNames();
    names.remember(ids.map((id) => ({ id, extra: { nodeId: `n${id}` } })));
    return names;
  };
  // The scene gives the last task first: 2, then 1.
  const known = scene({ ready: 2, inputBytes: 1, epochs: [1, 1], nodeNames: stored('1', '2') });
  expect((await known.offer(2)).map((a) => a.nodeId).sort()).toEqual(['n1', 'n2']);
  expect(known.statements).toEqual(['claim']);
  for (const [epochs, names] of [
    [[1, 1], stored('1')],
    [[1, 2], stored('1', '2')],
  ] as const) {
    const other = scene({ ready: 2, inputBytes: 1, epochs: [...epochs], nodeNames: names });
    await other.offer(2);
    expect(other.statements).toEqual(['claim', 'load specs']);
  }
});

it('remembers so many names and no more', () => {
  const names = createNodeNames(2);
  names.remember(['1', '2', '3'].map((id) => ({ id, extra: { nodeId: `n${id}` } })));
  expect(['1', '2', '3', '3'].map((id) => names.take(id))).toEqual([undefined, 'n2', 'n3', undefined]);
});

it('looks at an offer that comes, and not at all that wait', async () => {
  let looks = 0;
  const breakers: Breakers = {
    ...ALL_CLOSED,
    stateOf: () => {
      looks++;
      return 'closed';
    },
  };
  const { dispatcher } = scene({ ready: 0, inputBytes: 0, breakers });
  // What is armed is for others, and stays so.
  const other = { ...ability, kinds: ['other'] };
  const waiting = Array.from({ length: 500 }, (_, n) =>
    dispatcher.offer({ id: `w${n}`, ability: other }, 1n, 1, 60_000),
  );
  expect(dispatcher.waiting()).toBe(500);
  await Promise.resolve();
  expect(looks).toBeLessThanOrEqual(2 * 500);
  looks = 0;
  dispatcher.again();
  await Promise.resolve();
  expect(looks).toBe(500);
  dispatcher.close();
  expect((await Promise.all(waiting)).flat()).toEqual([]);
});
