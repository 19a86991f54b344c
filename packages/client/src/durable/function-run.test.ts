import { expect, test } from 'vitest';
import { NonRetryable } from '../workflows/control-flow.ts';
import type { WorkflowContext } from '../workflows/workflow-function.ts';
import { workflowContext } from './context.ts';
import { NonDeterminism, StepFailed } from './errors.ts';
import { type FunctionEnd, FunctionRun } from './function-run.ts';
import type { JournalEntry } from './journal.ts';
import { MemoryJournal, VirtualClock } from './memory-journal.fixture.ts';

type Body = (ctx: WorkflowContext) => unknown;

/** A run of a function, over as many goes as it takes. */
function stage() {
  const clock = new VirtualClock();
  const journal = new MemoryJournal(clock);
  const lines: string[] = [];
  let abort = new AbortController();
  const go = async (body: Body, { check = false, entries }: { check?: boolean; entries?: JournalEntry[] } = {}) => {
    abort = new AbortController();
    const loaded = journal.load();
    const all = entries ?? journal.entries.map((e) => ({ ...e }));
    const run = new FunctionRun({
      runId: '7',
      startMs: 500,
      entries: all,
      wakes: loaded.wakes,
      nowMs: loaded.nowMs,
      journal: check ? null : journal,
      clock,
      signal: abort.signal,
      patienceMs: 20,
    });
    const timers = setInterval(() => clock.advance(), 1);
    try {
      const end = await run.run(() => body(workflowContext(run, '7', (text) => lines.push(text))));
      // What the journal lacks is written with the end.
      if (end.kind === 'completed' && end.rest.length > 0) await journal.append(end.rest, end.seenPosition);
      return end;
    } finally {
      clearInterval(timers);
    }
  };
  const value = async (body: Body) => {
    const end = await go(body);
    if (end.kind !== 'completed')
      throw new Error(
        `${end.kind}: ${JSON.stringify(end, (_, v) => (v instanceof Error ? v.message : typeof v === 'bigint' ? `${v}` : v))}`,
      );
    return end.value;
  };
  return { clock, journal, lines, go, value, abort: (why?: unknown) => abort.abort(why) };
}

const errorOf = (end: FunctionEnd) => (end.kind === 'failed' ? (end.error as Error) : undefined);

test('what a step gave is taken from the journal and not made again', async () => {
  const { value, lines } = stage();
  let runs = 0;
  const body: Body = async (ctx) => {
    ctx.log('begun');
    const a = await ctx.step('a', () => ++runs);
    const b = await ctx.step('b', () => ({ at: new Date(0), nothing: undefined, runs: ++runs }));
    return [a, b, ctx.uuid(), ctx.random(), ctx.now()];
  };
  const first = await value(body);
  expect(await value(body)).toEqual(first);
  expect((first as unknown[]).slice(0, 2)).toEqual([1, { at: '1970-01-01T00:00:00.000Z', runs: 2 }]);
  expect(runs).toBe(2);
  expect(lines).toEqual(['begun']);
});

test('a function that only waits is suspended, and goes on where it was', async () => {
  const { clock, journal, go, value } = stage();
  const body: Body = async (ctx) => {
    const before = await ctx.step('a', () => 1);
    await ctx.sleep('24h');
    const answer = await ctx.waitFor<string>('approved', { timeout: '7d' });
    return [before, answer];
  };
  const asleep = await go(body);
  expect(asleep).toMatchObject({ kind: 'suspended', wakes: 0n });
  expect((asleep as { dueAtMs: number }).dueAtMs - clock.now()).toBeGreaterThan(86_390_000);
  clock.passTo((asleep as { dueAtMs: number }).dueAtMs);
  expect(await go(body)).toMatchObject({ kind: 'suspended' });
  journal.signal('approved', 'yes');
  expect(await value(body)).toEqual([1, 'yes']);
});

test('a signal that came before is there; one that does not come is undefined when its time is over', async () => {
  const { clock, journal, go, value } = stage();
  journal.signal('early', 1);
  journal.signal('early', 2);
  const body: Body = async (ctx) => [
    await ctx.waitFor('early'),
    await ctx.waitFor('early'),
    await ctx.waitFor('never', { timeout: '1m' }),
  ];
  const end = await go(body);
  clock.passTo((end as { dueAtMs: number }).dueAtMs);
  expect(await value(body)).toEqual([1, 2, undefined]);
});

test('steps that throw are tried again, then StepFailed is thrown, in each replay', async () => {
  const { value, journal } = stage();
  let tries = 0;
  const body: Body = async (ctx) => {
    try {
      await ctx.step('flaky', ({ attempt }) => {
        tries++;
        throw new Error(`no ${attempt}`);
      });
    } catch (error) {
      if (!(error instanceof StepFailed)) throw error;
      return [error.step, error.attempts, error.failure.message, error.message];
    }
    return 'unexpected';
  };
  const first = await value(body);
  expect(first).toEqual(['flaky', 3, 'no 3', 'step `flaky` failed after 3 attempts: no 3']);
  expect(await value(body)).toEqual(first);
  expect(tries).toBe(3);
  expect(journal.entries).toHaveLength(1);
});

test('NonRetryable is not tried again, and a step that takes too long has timed out', async () => {
  const { value } = stage();
  expect(
    await value(async (ctx) => {
      const caught: unknown[] = [];
      await ctx
        .step('never', () => {
          throw new NonRetryable('no use');
        })
        .catch((error: StepFailed) => caught.push([error.attempts, error.failure.message]));
      await ctx
        .step('slow', () => new Promise(() => {}), { timeoutMs: 500, retry: { maxAttempts: 1 } })
        .catch((error: StepFailed) => caught.push(error.failure.type));
      return caught;
    }),
  ).toEqual([[1, 'no use'], 'TASK_TIMEOUT']);
});

test('a step waits for a far retry in the journal, and counts its tries over goes', async () => {
  const { clock, go, value } = stage();
  const attempts: number[] = [];
  const body: Body = (ctx) =>
    ctx.step(
      'far',
      ({ attempt }) => {
        attempts.push(attempt);
        if (attempt < 3) throw new Error('later');
        return 'done';
      },
      { retry: { maxAttempts: 3, initialDelayMs: 60_000 } },
    );
  for (let i = 0; i < 2; i++) {
    const end = await go(body);
    expect(end).toMatchObject({ kind: 'suspended' });
    clock.passTo((end as { dueAtMs: number }).dueAtMs);
  }
  expect(await value(body)).toBe('done');
  expect(attempts).toEqual([1, 2, 3]);
});

test('an output that is too large, or no JSON, fails its step with a word on it', async () => {
  const { value } = stage();
  const caught = (await value(async (ctx) => {
    const messages: string[] = [];
    await ctx.step('big', () => 'x'.repeat(3_000_000)).catch((error: Error) => messages.push(error.message));
    await ctx
      .step('cyclic', () => {
        const a: unknown[] = [];
        a.push(a);
        return a;
      })
      .catch((error: Error) => messages.push(error.message));
    return messages;
  })) as string[];
  expect(caught[0]).toMatch(/OUTPUT_TOO_LARGE: the output of step `big` has 3000002 bytes; at most 2097152/);
  expect(caught[1]).toMatch(/cannot be written as JSON/);
});

test('branches that run side by side meet the same order in a replay', async () => {
  const { value, journal } = stage();
  const body =
    (delays: number[]): Body =>
    async (ctx) => {
      const order: string[] = [];
      await ctx.all(
        delays.map(async (delay, i) => {
          for (let n = 0; n < 3; n++) {
            await ctx.step(`${i}`, () => new Promise((resolve) => setTimeout(resolve, delay)));
            order.push(`${i}.${n}`);
          }
        }),
      );
      return order.join(' ');
    };
  const first = await value(body([7, 2, 4]));
  // The code is as fast as it likes in the replay: nothing is carried out.
  expect(await value(body([0, 30, 1]))).toBe(first);
  expect(journal.entries).toHaveLength(9);
});

test('a race is won by the same in each replay, and its loser is told to stop', async () => {
  const { value, clock } = stage();
  let stopped = false;
  const body: Body = async (ctx) => {
    const winner = await Promise.race([
      ctx.step(
        'slow',
        ({ signal }) =>
          new Promise((_, reject) =>
            signal.addEventListener('abort', () => {
              stopped = true;
              reject(signal.reason);
            }),
          ),
      ),
      ctx.sleep('10s').then(() => 'time is up'),
    ]);
    return winner;
  };
  const running = value(body);
  const passing = setInterval(() => clock.passTo(clock.now() + 1_000), 1);
  expect(await running).toBe('time is up');
  clearInterval(passing);
  expect(stopped).toBe(true);
  expect(await value(body)).toBe('time is up');
});

test('tasks that are waited for are submitted once, all before the function is suspended', async () => {
  const { go, value, journal } = stage();
  const body: Body = (ctx) => ctx.all([ctx.run('a', { n: 1 }), ctx.run('b'), ctx.step('c', () => 3)]);
  expect(await go(body)).toMatchObject({ kind: 'suspended', dueAtMs: null });
  expect(journal.entries.map((e) => [e.number, e.kind, e.name])).toEqual([
    [1, 'task', 'a'],
    [2, 'task', 'b'],
    [3, 'step', 'c'],
  ]);
  journal.endTasks();
  expect(await value(body)).toEqual(['done a', 'done b', 3]);
});

test('waits that an answer leaves out, because they were there before, are waits', async () => {
  const { go, value, journal, clock } = stage();
  const body: Body = (ctx) => ctx.all([ctx.run('a'), ctx.sleep('1h')]);
  const append = journal.append.bind(journal);
  journal.append = async (entries, seen) => {
    const answer = await append(entries, seen);
    return { ...answer, entries: answer.entries.filter(({ position }) => position > 0) };
  };
  const end = await go(body);
  expect(end).toMatchObject({ kind: 'suspended', dueAtMs: clock.now() + 3_600_000 });
  journal.endTasks();
  clock.passTo(clock.now() + 3_600_000);
  expect(await value(body)).toEqual(['done a', undefined]);
});

test.each<[string, Body, RegExp]>([
  [
    'another name',
    async (ctx) => ctx.step('refund', () => 1),
    /step 1 is step `charge` in the journal, step `refund` in the code/,
  ],
  ['another kind', async (ctx) => ctx.sleep('1s'), /step 1 is step `charge` in the journal, a sleep in the code/],
  [
    'fewer steps',
    async (ctx) => ctx.step('charge', () => 1),
    /step 2 is `ship` in the journal, and the code ends before/,
  ],
  [
    'a swap',
    async (ctx) => {
      await ctx.step('charge', () => 1);
      await ctx.step('mail', () => 1);
    },
    /step 2 is step `ship` in the journal, step `mail` in the code/,
  ],
  [
    'code that awaits something else',
    async () => new Promise(() => {}),
    /step 1 is `charge` in the journal, and the code does not come to it/,
  ],
  [
    'an error before',
    async (ctx) => {
      await ctx.step('charge', () => 1);
      throw new Error('early');
    },
    /step 2 is `ship` in the journal, and the code fails before \(early\)/,
  ],
])('changed code is refused with the step that differs: %s', async (_, changed, message) => {
  const { value, go, journal } = stage();
  await value(async (ctx) => {
    await ctx.step('charge', () => 1);
    await ctx.step('ship', () => 2);
  });
  const before = journal.entries.length;
  const end = await go(changed);
  expect(errorOf(end)).toBeInstanceOf(NonDeterminism);
  expect(errorOf(end)!.message).toMatch(message);
  expect(journal.entries).toHaveLength(before);
});

test('code can be compared with a journal without carrying anything out', async () => {
  const { go, value } = stage();
  const body: Body = async (ctx) => {
    await ctx.step('a', () => 1);
    return ctx.step('b', () => 2);
  };
  await value(body);
  expect(await go(body, { check: true })).toMatchObject({ kind: 'completed', value: 2 });
  const longer: Body = async (ctx) => {
    await body(ctx);
    await ctx.step('c', () => {
      throw new Error('carried out');
    });
  };
  expect(await go(longer, { check: true })).toEqual({
    kind: 'caught-up',
    asks: [{ number: 3, kind: 'step', name: 'c' }],
  });
});

test('an aborted go waits for its step, keeps nothing of it, and the next one makes it with the same key', async () => {
  const { go, value, abort, journal } = stage();
  const keys: string[] = [];
  const body: Body = async (ctx) => {
    await ctx.step('a', () => 1);
    return ctx.step('b', async ({ stepKey, signal }) => {
      keys.push(stepKey);
      if (keys.length === 1) {
        setTimeout(() => abort(new Error('the lease is lost')), 5);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      }
      return 2;
    });
  };
  expect(await go(body)).toEqual({ kind: 'aborted' });
  expect(journal.entries).toHaveLength(1);
  expect(await value(body)).toBe(2);
  expect(keys).toEqual(['7/2', '7/2']);
});

test('ten thousand steps replay in a moment', async () => {
  const { go } = stage();
  const body: Body = async (ctx) => {
    let sum = 0;
    for (let i = 0; i < 10_000; i++) sum += await ctx.step('add', () => 1);
    return sum;
  };
  const entries: JournalEntry[] = Array.from({ length: 10_000 }, (_, i) => ({
    number: i + 1,
    kind: 'step',
    name: 'add',
    position: i + 1,
    endedAtMs: i,
    dueAtMs: 0,
    refId: '',
    output: { encoding: 1, bytes: new TextEncoder().encode('1') },
    attempts: 1,
  }));
  const begun = performance.now();
  expect(await go(body, { entries })).toMatchObject({ kind: 'completed', value: 10_000 });
  expect(performance.now() - begun).toBeLessThan(5_000);
});

test('a step begins when all that the code has seen is in the journal, and the last step goes there with the end', async () => {
  const { journal, go } = stage();
  const seen: unknown[] = [];
  const body: Body = async (ctx) => {
    const known = () => journal.entries.map(({ number, position, endedAtMs }) => [number, position, endedAtMs]);
    const times: number[] = [];
    for (let n = 1; n <= 3; n++) {
      await ctx.step(`s${n}`, () => seen.push(known()));
      times.push(ctx.now());
    }
    return times;
  };
  const end = await go(body);
  if (end.kind !== 'completed') throw new Error(end.kind);
  const times = end.value as number[];
  const rows = times.map((at, i) => [i + 1, i + 1, at]);
  expect(seen).toEqual([[], rows.slice(0, 1), rows.slice(0, 2)]);
  expect(end.rest.map((e) => e.number)).toEqual([3]);
  expect(journal.appends).toBe(3);
  expect(await go(body, { check: true })).toMatchObject({ kind: 'completed', value: times });
});

test('a function that throws after its last step has that step in its journal', async () => {
  const { journal, go } = stage();
  const body: Body = async (ctx) => {
    await ctx.step('a', () => 1);
    await ctx.step('b', () => 2);
    throw new Error('no');
  };
  expect(errorOf(await go(body))?.message).toBe('no');
  expect(journal.entries.map((e) => e.position)).toEqual([1, 2]);
});

test('a step that fails for good while it is alone is told at once, and may be caught', async () => {
  const { journal, go } = stage();
  const body: Body = async (ctx) => {
    await ctx.step('a', () => 1);
    const caught = await ctx
      .step('b', () => {
        throw new NonRetryable('bad');
      })
      .catch((error: StepFailed) => [error.step, error.number, error.failure.message]);
    return [caught, await ctx.step('c', () => journal.entries.length), ctx.now()];
  };
  const end = await go(body);
  expect((end as { value: unknown[] }).value.slice(0, 2)).toEqual([['b', 2, 'bad'], 2]);
  expect(await go(body, { check: true })).toMatchObject({ value: (end as { value: unknown }).value });
});

test('a wait goes to the journal together with the step before it', async () => {
  const { journal, go } = stage();
  const body: Body = async (ctx) => {
    await ctx.step('a', () => 1);
    await ctx.step('b', () => 2);
    await ctx.sleep('1d');
  };
  expect(await go(body)).toMatchObject({ kind: 'suspended' });
  expect(journal.appends).toBe(2);
  expect(journal.entries.map((e) => [e.kind, e.position])).toEqual([
    ['step', 1],
    ['step', 2],
    ['sleep', 0],
  ]);
});

test('a journal that gives a step another time than the code was told ends the go before anything else is done', async () => {
  const { journal, go, value } = stage();
  let later = 0;
  const body: Body = async (ctx) => {
    await ctx.step('a', () => 1);
    await ctx.step('b', () => 2);
    const at = ctx.now();
    await ctx.step('c', () => ++later);
    return at;
  };
  journal.after = () => {
    const b = journal.entries[1];
    if (b) b.endedAtMs += 7;
  };
  const add = journal.append.bind(journal);
  journal.append = async (entries, seen) => {
    const answer = await add(entries, seen);
    return { ...answer, entries: journal.load(seen, entries).entries };
  };
  expect(errorOf(await go(body))).toMatchObject({ name: 'JournalError', reason: 'OUT_OF_STEP' });
  expect(later).toBe(0);
  // A journal that is known to do so is waited for.
  journal.keepsTimes = false;
  journal.after = () => {};
  expect(await value(body)).toBe(journal.entries[1]!.endedAtMs);
  expect(later).toBe(1);
});
