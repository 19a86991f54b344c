import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { graph, NonRetryable, RetryAfter, RunFailed, TaskFailed, task, workflow } from '@baton/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Kit, KitError, startKit } from './index.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const double = task({ id: 'double', run: (n: number) => 2 * n });
const shaky = task({
  id: 'shaky',
  retry: { maxAttempts: 5, initialDelayMs: HOUR_MS, factor: 1 },
  run: (_: undefined, { attempt }) => `in attempt ${attempt}`,
});
const nap = workflow({
  id: 'nap',
  run: async (ctx, duration: string) => {
    const before = ctx.now();
    await ctx.sleep(duration);
    const doubled = await ctx.run(double, 21);
    return { slept: ctx.now() - before, doubled };
  },
});
const order = workflow({
  id: 'order',
  run: async (ctx, amount: number) => {
    const charge = await ctx.step('charge', ({ stepKey }) => `${amount} by ${stepKey.split('/')[1]}`);
    const answer = await ctx.waitFor<string>('approved', { timeout: '7d' });
    await ctx.step('book', () => 'booked');
    return { charge, answer: answer ?? 'nobody' };
  },
});
const deaf = workflow({ id: 'deaf', run: (ctx) => ctx.waitFor<number>('never') });
const held = task({
  id: 'held',
  run: (_: undefined, { signal }) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true })),
});

/** Everything that waits for a time, side by side. */
const busy = workflow({
  id: 'busy',
  run: async (ctx, days: number) => {
    const begun = ctx.now();
    const [child, answer, first] = await ctx.all([
      ctx.child(nap, `${days}d`),
      ctx.waitFor('nothing', { timeout: `${days + 1}d` }),
      Promise.race([ctx.sleep('1h').then(() => 'short'), ctx.sleep('2d').then(() => 'long')]),
    ]);
    await ctx.sleepUntil(ctx.now() + HOUR_MS);
    return { doubled: child.doubled, answer: answer ?? null, first, hours: Math.floor((ctx.now() - begun) / HOUR_MS) };
  },
});

const tasks = [double, shaky, nap, order, deaf, held, busy];
let kit: Kit;

beforeAll(async () => {
  kit = await startKit({ tasks });
});
afterAll(() => kit.stop());

/** How much of the kit's time passes meanwhile, ms. */
async function passing(work: () => Promise<unknown>): Promise<number> {
  const before = kit.now();
  await work();
  return kit.now() - before;
}

const thrown = (work: Promise<unknown>) =>
  work.then(
    () => expect.fail('it should have failed'),
    (error: unknown) => error,
  );

describe('time', () => {
  test('24 hours of sleep pass at once, and the function sees them', async () => {
    const begun = performance.now();
    const run = await kit.run(nap, '24h');
    let slept = 0;
    const passed = await passing(async () => {
      const output = await run.result();
      expect(output.doubled).toBe(42);
      slept = output.slept;
    });
    // 0.3 s; a limit that a machine with much else to do keeps, too.
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(slept).toBeGreaterThanOrEqual(DAY_MS);
    expect(slept).toBeLessThan(DAY_MS + MINUTE_MS);
    expect(passed).toBeGreaterThanOrEqual(DAY_MS);
  });

  test('a signal that was sent is taken; without one the time for it passes', async () => {
    const answered = await kit.run(order, 12);
    await answered.signal('approved', 'Ada');
    expect(
      await passing(async () => expect(await answered.result()).toEqual({ charge: '12 by 1', answer: 'Ada' })),
    ).toBeLessThan(HOUR_MS);
    const silent = await kit.run(order, 13);
    const passed = await passing(async () =>
      expect(await silent.result()).toEqual({ charge: '13 by 1', answer: 'nobody' }),
    );
    expect(passed).toBeGreaterThanOrEqual(7 * DAY_MS);
    expect((await silent.journal()).map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'step charge',
      'signal approved',
      'step book',
    ]);
  });

  test('advance goes from one due time to the next, and no further than it was told', async () => {
    const runs = [await kit.run(nap, '1h'), await kit.run(nap, '2h'), await kit.run(nap, '10h')];
    await kit.settle();
    const passed = await passing(() => kit.advance('3h'));
    expect(passed).toBeGreaterThanOrEqual(3 * HOUR_MS);
    expect(passed).toBeLessThan(3 * HOUR_MS + MINUTE_MS);
    const states = await Promise.all(runs.map(async (run) => (await run.status()).state));
    expect(states).toEqual(['succeeded', 'succeeded', 'waiting']);
    await kit.advance('7h');
    expect((await runs[2]!.status()).state).toBe('succeeded');
  });

  test('retries wait for their delay, tasks for their time, and a task that nobody starts for its end', async () => {
    const rule = kit.fail(shaky, { with: new Error('not yet'), times: 2 });
    const failing = await kit.run(shaky, undefined);
    expect(await passing(async () => expect(await failing.result()).toBe('in attempt 3'))).toBeGreaterThanOrEqual(
      2 * HOUR_MS,
    );
    expect(rule.struck).toBe(2);
    const later = await kit.run(double, 4, { runAt: new Date(kit.now() + 5 * HOUR_MS) });
    expect(await passing(() => later.result())).toBeGreaterThanOrEqual(5 * HOUR_MS - 1_000);
    const delayed = await kit.run(double, 5, { delayMs: 5 * HOUR_MS });
    expect(await passing(() => delayed.result())).toBeGreaterThanOrEqual(5 * HOUR_MS - 1_000);
    const nowhere = await kit.run(double, 6, { tags: ['gpu-of-nobody'], scheduleToStartTimeoutMs: DAY_MS });
    const passed = await passing(async () => {
      expect(await nowhere.end()).toMatchObject({ state: 'failed', failure: { type: 'TASK_TIMEOUT' } });
    });
    expect(passed).toBeGreaterThanOrEqual(DAY_MS - 1_000);
    expect(passed).toBeLessThan(DAY_MS + HOUR_MS);
  });

  test('many runs side by side, each on its own time, and a worker that is lost meanwhile', async () => {
    const runs = await Promise.all([1, 2, 3, 5, 8, 13, 21, 34].map((days) => kit.run(busy, days)));
    const ends = Promise.all(runs.map((run) => run.result()));
    await kit.crash();
    expect(await ends).toEqual(
      [1, 2, 3, 5, 8, 13, 21, 34].map((days) => ({
        doubled: 42,
        answer: null,
        first: 'short',
        hours: 24 * (days + 1) + 1,
      })),
    );
  });

  test('one slot for many: what waits for the slot is done before time passes, whatever its priority', async () => {
    await using narrow = await startKit({ tasks, slots: 1 });
    const sleeper = await narrow.run(nap, '1d');
    const many = await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        narrow.run(double, n, { priority: n % 3, scheduleToStartTimeoutMs: HOUR_MS }),
      ),
    );
    expect(await Promise.all(many.map((run) => run.result()))).toEqual(many.map((_, n) => 2 * n));
    expect(narrow.now() - Date.now()).toBeLessThan(MINUTE_MS);
    // A step that is about to be tried again holds the slot meanwhile.
    narrow.fail(order, { step: 'charge', with: new Error('again'), times: 2 });
    const [trying, behind] = await Promise.all([narrow.run(order, 1), narrow.run(double, 5)]);
    expect(await behind.result()).toBe(10);
    await trying.signal('approved', 'Al');
    expect(await trying.result()).toMatchObject({ answer: 'Al' });
    expect((await sleeper.result()).doubled).toBe(42);
  });

  test('what is kept for a time is kept for that time', async () => {
    const cached = {
      name: 'cached',
      nodes: { only: { task: 'double', input: { $input: [] }, cache: { ttl_seconds: 3_600 } } },
    };
    const before = kit.attempts(double);
    await (await kit.run(cached, 77)).result();
    expect((await (await kit.run(cached, 77)).nodes()).only).toBeDefined();
    const again = await kit.run(cached, 77);
    expect(await again.result()).toEqual({ only: 154 });
    expect((await again.nodes()).only).toMatchObject({ cached: true });
    expect(kit.attempts(double) - before).toBe(1);
    await kit.advance('2h');
    await (await kit.run(cached, 77)).result();
    expect(kit.attempts(double) - before).toBe(2);

    const key = { idempotencyKey: 'monday' };
    const [one, same] = [await kit.run(double, 1, key), await kit.run(double, 1, key)];
    expect(same.id).toBe(one.id);
    await kit.advance('25h');
    expect((await kit.run(double, 1, key)).id).not.toBe(one.id);
  });

  test('while code runs no time passes; a run that waits for what nobody sends is told, and so is work that nobody can do', async () => {
    const running = await kit.run(held, undefined);
    await expect.poll(() => kit.attempts(held)).toBe(1);
    await using impatient = await startKit({ tasks, patienceMs: 50 });
    const stuck = await impatient.run(held, undefined);
    expect(await thrown(impatient.advance('1h'))).toMatchObject({
      reason: 'STILL_RUNNING',
      message: expect.stringContaining('task `held`'),
    });
    expect(impatient.now() - Date.now()).toBeLessThan(MINUTE_MS);
    await impatient.advance('1h', { whileRunning: true });
    expect(impatient.now() - Date.now()).toBeGreaterThan(HOUR_MS - 1_000);
    expect((await stuck.status()).state).toBe('leased');
    await running.cancel();
    expect(await running.end()).toMatchObject({ state: 'cancelled' });

    const [waits, lacks] = [await kit.run(deaf), await kit.run(double, 1, { tags: ['nobody'] })];
    for (const [run, why] of [
      [waits, 'signal never'],
      [lacks, 'nobody'],
    ] as const) {
      const error = (await thrown(run.result())) as KitError;
      expect(error).toBeInstanceOf(KitError);
      expect(error.reason).toBe('NOTHING_WILL_HAPPEN');
      expect(error.message).toContain(why);
    }
    await waits.signal('never', 5);
    expect(await waits.result()).toBe(5);
    await lacks.cancel();
  });

  test('a clock that is moved by hand stands still while an end is waited for', async () => {
    await using manual = await startKit({ tasks, clock: 'manual' });
    const run = await manual.run(nap, '1h');
    expect(await thrown(run.result())).toMatchObject({ reason: 'NOTHING_WILL_HAPPEN', message: /kit\.advance\(3/ });
    await manual.advance('1h');
    expect((await run.result()).doubled).toBe(42);
  });
});

describe('failures', () => {
  test.each([
    ['EVALUATION_ERROR', 'EVALUATION_ERROR'],
    ['NETWORK_ERROR', 'NETWORK_ERROR'],
    ['GPU_ERROR', 'GPU_ERROR'],
    ['TASK_TIMEOUT', 'TASK_TIMEOUT'],
    ['UNKNOWN', 'UNKNOWN'],
  ] as const)('an attempt fails with %s, and the next one goes well', async (type, seen) => {
    kit.fail(shaky, { with: type });
    const run = await kit.run(shaky, undefined);
    const ended = await run.end();
    expect(ended.state).toBe('succeeded');
    expect(ended.attempts.map((attempt) => attempt.failure?.type)).toEqual([seen, undefined]);
  });

  test('errors mean what they mean when code throws them, and only where the rule says so', async () => {
    kit.fail(shaky, { attempt: 2, with: new NonRetryable('no use') });
    kit.fail(shaky, { attempt: 1, with: new RetryAfter(3 * DAY_MS), when: 'after' });
    const before = kit.attempts(shaky);
    const run = await kit.run(shaky, undefined);
    let error: unknown;
    expect(
      await passing(async () => {
        error = await thrown(run.result());
      }),
    ).toBeGreaterThanOrEqual(3 * DAY_MS);
    expect(error).toBeInstanceOf(TaskFailed);
    expect((error as Error).message).toContain('no use');
    // The first had run, the second had not.
    expect(kit.attempts(shaky) - before).toBe(1);

    const big = kit.fail(double, { with: new NonRetryable('too big'), input: (n) => (n as number) > 10, times: 5 });
    const [small, large] = [await kit.run(double, 10), await kit.run(double, 11)];
    expect(await small.result()).toBe(20);
    await expect(large.result()).rejects.toThrow('too big');
    expect(big.struck).toBe(1);
    big.stop();
    expect(await (await kit.run(double, 11)).result()).toBe(22);
  });

  test('a worker that is lost in the middle of a task: another one does it again', async () => {
    kit.fail(double, { with: 'crash' });
    kit.fail(double, { with: 'crash', when: 'after' });
    const run = await kit.run(double, 8);
    const ended = await run.end();
    expect(ended).toMatchObject({ state: 'succeeded', output: 16 });
    expect(ended.attempts.map(({ state }) => state)).toEqual(['lost', 'lost', 'succeeded']);
    expect(new Set(ended.attempts.map(({ worker }) => worker)).size).toBe(3);
  });

  test('a worker that is lost before, in, and after a step: at least once while it is not in the journal, never again after', async () => {
    for (const [when, tries] of [
      ['before', 1],
      ['after', 2],
      ['kept', 1],
    ] as const) {
      const rule = kit.fail(order, { step: 'charge', with: 'crash', when });
      const run = await kit.run(order, 5);
      await run.signal('approved', when);
      expect(await run.result()).toEqual({ charge: '5 by 1', answer: when });
      expect(rule.struck).toBe(1);
      expect(run.steps().map(({ step, stepKey, tries, completions }) => [step, stepKey, tries, completions])).toEqual([
        ['charge', `${run.id}/1`, tries, tries],
        ['book', `${run.id}/3`, 1, 1],
      ]);
    }
  });

  test('a worker that is lost behind the last step of a function makes no step again', async () => {
    const rule = kit.fail(order, { step: 'book', with: 'crash', when: 'kept' });
    const run = await kit.run(order, 6);
    await run.signal('approved', 'Eve');
    expect(await run.result()).toMatchObject({ answer: 'Eve' });
    expect(rule.struck).toBe(1);
    expect(run.steps().map(({ step, tries }) => [step, tries])).toEqual([
      ['charge', 1],
      ['book', 1],
    ]);
    expect((await run.status()).nodes.map(({ state }) => state)).toEqual(['succeeded', 'succeeded', 'succeeded']);
  });

  test('where no machine has more memory, running out of it is the end', async () => {
    kit.fail(shaky, { with: 'OUT_OF_MEMORY' });
    expect(await (await kit.run(shaky, undefined)).end()).toMatchObject({
      state: 'failed',
      failure: { type: 'OUT_OF_MEMORY' },
    });
  });

  test('a step fails, is tried again after its delay, and fails its run for good', async () => {
    kit.fail(order, { step: 'charge', with: new Error('declined'), times: 2 });
    const recovered = await kit.run(order, 1);
    await recovered.signal('approved', 'Bob');
    expect(await recovered.result()).toMatchObject({ answer: 'Bob' });
    kit.fail(order, { step: 'book', with: 'TASK_TIMEOUT', times: 3 });
    const run = await kit.run(order, 2);
    const failed = (await thrown(run.result())) as RunFailed;
    expect(failed).toBeInstanceOf(RunFailed);
    expect(failed.run.failure?.type).toBe('TASK_TIMEOUT');
    expect(failed.message).toMatch(/step `book` failed after 3 attempts/);
    await run.retry();
    expect((await run.end()).state).toBe('succeeded');
    expect(run.steps().map(({ step, completions }) => [step, completions])).toEqual([
      ['charge', 1],
      ['book', 1],
    ]);
  });
});

describe('what is run', () => {
  test('graphs, workflow files and definitions, with their nodes', async () => {
    const wf = graph<number>({ id: 'twice' });
    const one = wf.node('one', double, { input: ({ input }) => input });
    const two = wf.node('two', double, { needs: [one], input: ({ one }) => one });
    const run = await kit.run(wf.output(two.output), 3);
    const output: number = await run.result();
    expect(output).toBe(12);
    expect(await run.nodes()).toMatchObject({ one: { state: 'succeeded', output: 6 }, two: { attempts: 1 } });

    const file = join(tmpdir(), `baton-kit-${process.pid}.yaml`);
    await writeFile(file, 'name: filed\nnodes:\n  only: { task: double, input: 5 }\n');
    expect(await (await kit.run(file)).result()).toEqual({ only: 10 });
    await writeFile(file, 'name: filed\nnodes:\n  only: { task: double, needs: [other] }\n');
    expect(await thrown(kit.run(file))).toMatchObject({
      reason: 'BROKEN_FILE',
      message: expect.stringContaining('nodes.only.needs[0]'),
    });
    expect(await thrown(kit.run('nowhere.yaml'))).toMatchObject({ reason: 'BROKEN_FILE' });
  });

  test('what the kit was not given is refused, saying so', async () => {
    const foreign = task({ id: 'foreign', run: () => 1 });
    const message = expect.stringContaining('startKit({ tasks: [foreign] }); it has double');
    expect(await thrown(kit.run(foreign, undefined))).toMatchObject({ reason: 'UNKNOWN_TASK', message });
    expect(() => kit.fail(foreign, { with: 'crash' })).toThrow(KitError);
    expect(() => kit.fail(double, { with: 'crash', step: 'x' })).toThrow(/no step "x"/);
    expect(() => kit.fail(order, { with: 'UNKNOWN', step: 'charge', when: 'kept' })).toThrow(RangeError);
  });

  test('a second kit is there soon, on a clock and a database of its own', async () => {
    const begun = performance.now();
    await using second = await startKit({ tasks });
    const took = performance.now() - begun;
    expect(second.databaseUrl).not.toBe(kit.databaseUrl);
    expect(await (await second.run(double, 1)).result()).toBe(2);
    await second.advance('1d');
    expect(second.now() - Date.now()).toBeLessThan(DAY_MS + MINUTE_MS);
    // 0.3 s; the same.
    expect(took).toBeLessThan(10_000);
    await second.stop();
    expect(await thrown(second.run(double, 1))).toBeInstanceOf(Error);
  });
});
