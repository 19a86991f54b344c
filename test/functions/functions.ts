import { appendFileSync, existsSync } from 'node:fs';
import { task, workflow } from '@baton/client';

/** What a step did, keyed by its step key: written before it takes its time. */
function effect(file: string, stepKey: string, name: string): void {
  appendFileSync(file, `${JSON.stringify({ stepKey, name, pid: process.pid })}\n`);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Until a file is there. */
async function gate(file: string): Promise<void> {
  while (!existsSync(file)) await pause(10);
}

interface Plan {
  readonly file: string;
  readonly steps: number;
  readonly stepMs?: number;
}

export const double = task({ id: 'double', run: (n: number) => 2 * n });

export const failing = task({
  id: 'failing',
  retry: { maxAttempts: 1 },
  run: (): never => {
    throw new Error('this task never works');
  },
});

/** Steps one after the other. */
export const walk = workflow({
  id: 'walk',
  run: async (ctx, { file, steps, stepMs = 0 }: Plan) => {
    const numbers: number[] = [];
    for (let n = 1; n <= steps; n++)
      numbers.push(
        await ctx.step(`s${n}`, async ({ stepKey }) => {
          effect(file, stepKey, `s${n}`);
          await pause(stepMs);
          return n;
        }),
      );
    return { sum: numbers.reduce((a, b) => a + b, 0), uuid: ctx.uuid() };
  },
});

/** Everything that a function can wait for. */
export const order = workflow({
  id: 'order',
  run: async (ctx, input: { file: string; sleepMs: number }) => {
    const charge = await ctx.step('charge', ({ stepKey }) => {
      effect(input.file, stepKey, 'charge');
      return 'charged';
    });
    const [six, eight] = await ctx.all([ctx.run(double, 3), ctx.run(double, 4)]);
    await ctx.sleep(input.sleepMs);
    const approved = await ctx.waitFor<{ by: string }>('approved', { timeout: '1h' });
    const late = await ctx.waitFor('never', { timeout: 50 });
    const sub = await ctx.child(walk, { file: input.file, steps: 2 });
    return { charge, six, eight, approved, late: late === undefined, sum: sub.sum };
  },
});

export const patient = workflow({
  id: 'patient',
  run: async (ctx, file: string) => {
    const answer = await ctx.waitFor<number>('answer');
    await ctx.step('use', ({ stepKey }) => effect(file, stepKey, 'use'));
    return answer;
  },
});

/** Waits for a task and a child that never end by themselves. */
export const stuck = workflow({
  id: 'stuck',
  run: async (ctx) => ctx.all([ctx.run('nobody-has-this'), ctx.child(patient, 'none')]),
});

export const fragile = workflow({
  id: 'fragile',
  run: async (ctx, { file, flag }: { file: string; flag: string }) => {
    const first = await ctx.step('first', ({ stepKey }) => {
      effect(file, stepKey, 'first');
      return 1;
    });
    const caught = await ctx.run(failing, undefined).catch((error: Error) => error.message);
    const second = await ctx.step(
      'second',
      ({ stepKey }) => {
        effect(file, stepKey, 'second');
        if (!existsSync(flag)) throw new Error('not yet');
        return 2;
      },
      { retry: { maxAttempts: 2, initialDelayMs: 10 } },
    );
    return { first, second, caught };
  },
});

export const gated = workflow({
  id: 'gated',
  run: async (ctx, { file, open }: { file: string; open: string }) => {
    await ctx.step('before', ({ stepKey }) => effect(file, stepKey, 'before'));
    await ctx.step('held', async ({ stepKey }) => {
      effect(file, stepKey, 'held');
      await gate(open);
    });
    await ctx.step('after', ({ stepKey }) => effect(file, stepKey, 'after'));
    return 'done';
  },
});

/** Starts any workflow by its name. */
export const outer = workflow({
  id: 'outer',
  run: async (ctx, name: string) => ({ child: await ctx.child(name) }),
});

export const heavy = workflow({
  id: 'heavy',
  run: async (ctx, { steps, bytes, signal }: { steps: number; bytes: number; signal: string }) => {
    let total = 0;
    for (let n = 0; n < steps; n++) total += (await ctx.step('s', () => 'x'.repeat(bytes))).length;
    await ctx.waitFor(signal);
    return total;
  },
});

export const fan = workflow({
  id: 'fan',
  run: async (ctx, count: number) => {
    const given = await ctx.all(Array.from({ length: count }, (_, n) => ctx.run(double, n)));
    return given.reduce((sum, n) => sum + n, 0);
  },
});

/** Reads what its policy has it given. */
export const configured = task({
  id: 'configured',
  environment: { set: { GREETING: 'hello' } },
  requires: { os: ['darwin', 'linux'] },
  resources: { cpus: 0.5, memoryGib: 0.01 },
  progressTimeoutMs: 60_000,
  run: (_: null, ctx) => ctx.env.GREETING,
});

/** Tasks with resources, requirements, variables and programs. */
export const equipped = workflow({
  id: 'equipped',
  run: async (ctx) => {
    const greeting = await ctx.run(configured, null);
    const program = { type: 'process', command: ['sh', '-c', 'printf "$GREETING"'], output: 'stdout' } as const;
    const printed = await ctx.run('print', null, {
      executor: program,
      environment: { set: { GREETING: 'hello from a program' } },
    });
    return { greeting, printed };
  },
});

/** Asks for what cannot be. */
export const greedy = workflow({
  id: 'greedy',
  run: (ctx, resources: { cpus?: number }) => ctx.run(double, 1, { resources }),
});

export const meddling = workflow({
  id: 'meddling',
  run: (ctx) => ctx.run(double, 1, { environment: { set: { LD_PRELOAD: '/tmp/x.so' } } }),
});
