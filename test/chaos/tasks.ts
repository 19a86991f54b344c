/** What the workers of a chaos run can do. Each attempt writes to the ledger of effects what it does, and when. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { NonRetryable, RetryAfter, type TaskContext, task, type WorkflowContext, workflow } from '@baton/client';
import { CHILD_SCRIPT, LEDGER_VARIABLE, writeEffect, writeStep } from './effects.ts';
import { nowMs } from './recorder.ts';
import { SIGNAL_MS, SIGNALS } from './signals.ts';

const ledger = process.env[LEDGER_VARIABLE]!;
const worker = process.env.BATON_WORKER_NAME!;

function effect(what: 'begin' | 'end' | 'killed', { taskId, epoch, attempt }: TaskContext, pid = process.pid): void {
  writeEffect(ledger, { what, taskId, epoch, attempt, pid, worker, atMs: nowMs() });
}

/** Notes what is handed over, and hands it over. */
function handOver<T>(ctx: TaskContext, result: T, pid = process.pid): T {
  const { taskId, epoch, attempt } = ctx;
  const sha256 = createHash('sha256').update(JSON.stringify(result)).digest('hex');
  writeEffect(ledger, { what: 'result', taskId, epoch, attempt, pid, worker, atMs: nowMs(), sha256 });
  return result;
}

/** Runs a process of its own for so long; it is dead before the attempt that was told to stop ends. */
async function child(ctx: TaskContext, ms: number, orphan: 'stays' | 'goes'): Promise<number> {
  const { taskId, epoch, attempt, signal } = ctx;
  const words = [taskId, String(epoch), String(attempt), worker, String(ms / 1000), ledger, orphan];
  // A pipe of Node's is a socket, and bash with a socket as its stdin reads the rc file of remote logins.
  const process_ = spawn('bash', ['--norc', '-c', CHILD_SCRIPT, 'chaos-child', ...words], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  });
  const kill = () => process_.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  try {
    const [code] = await once(process_, 'exit');
    if (signal.aborted) {
      effect('killed', ctx, process_.pid);
      throw signal.reason;
    }
    if (code !== 0) throw new Error(`the child ended with ${code}`);
    return process_.pid!;
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

export interface Work {
  readonly ms: number;
  /** What its process does when its worker is killed. */
  readonly orphan?: 'stays' | 'goes';
}

/** Work in a process of its own. */
export const step = task({
  id: 'step',
  async run({ ms, orphan = 'goes' }: Work, ctx) {
    const pid = await child(ctx, ms, orphan);
    return handOver(ctx, { epoch: ctx.epoch, pid }, pid);
  },
});

/** Work in the worker's own process, done at once. */
export const plain = task({
  id: 'plain',
  run(_: Work, ctx) {
    effect('begin', ctx);
    effect('end', ctx);
    return handOver(ctx, { epoch: ctx.epoch, pid: process.pid });
  },
});

/** Fails for its first attempts. */
export const fails = task({
  id: 'fails',
  run({ times, how }: { readonly times: number; readonly how: 'error' | 'final' | 'later' }, ctx) {
    effect('begin', ctx);
    effect('end', ctx);
    if (ctx.attempt > times) return ctx.attempt;
    if (how === 'final') throw new NonRetryable('never again');
    if (how === 'later') throw new RetryAfter(250);
    throw new RangeError(`attempt ${ctx.attempt} of ${times} that fail`);
  },
});

/** Takes its worker with it, in its first leases. */
export const crash = task({
  id: 'crash',
  async run({ times }: { readonly times: number }, ctx) {
    effect('begin', ctx);
    if (ctx.epoch <= times) {
      process.kill(process.pid, 'SIGKILL');
      await new Promise(() => {});
    }
    effect('end', ctx);
    return ctx.epoch;
  },
});

/** Keeps the worker's main thread busy. */
export const block = task({
  id: 'block',
  run({ ms }: { readonly ms: number }, ctx) {
    effect('begin', ctx);
    const until = performance.now() + ms;
    while (performance.now() < until) {}
    effect('end', ctx);
    return ctx.epoch;
  },
});

/** Writes lines while it works. */
export const chat = task({
  id: 'chat',
  async run({ lines, ms }: { readonly lines: number; readonly ms: number }, ctx) {
    for (let i = 1; i <= lines; i++) ctx.log(`line ${i} of ${lines}, epoch ${ctx.epoch}`);
    const pid = await child(ctx, ms, 'goes');
    return handOver(ctx, { epoch: ctx.epoch, pid }, pid);
  },
});

/** Saves where it stands after each step, and goes on from there when it is done again. It may die or fail on its way. */
export const saves = task({
  id: 'saves',
  async run(
    input: { readonly steps: number; readonly ms: number; readonly failsAt: number; readonly dies: boolean },
    ctx,
  ) {
    const { taskId, epoch, attempt, checkpoint, signal } = ctx;
    const { latest } = checkpoint;
    const saved = await checkpoint.load<{ readonly step: number }>();
    const resumedFrom = saved === undefined ? null : latest;
    writeEffect(ledger, {
      what: 'begin',
      taskId,
      epoch,
      attempt,
      pid: process.pid,
      worker,
      atMs: nowMs(),
      resumedFrom,
    });
    try {
      for (let step = (saved?.step ?? 0) + 1; step <= input.steps; step++) {
        await new Promise((resolve) => setTimeout(resolve, input.ms));
        signal.throwIfAborted();
        await checkpoint.save({ step, epoch }, { score: step % 3 });
        if (step !== input.failsAt || epoch > 1) continue;
        if (input.dies) process.kill(process.pid, 'SIGKILL');
        throw new RangeError(`fails behind step ${step}`);
      }
    } catch (error) {
      // Its own failure, or the lease is lost: then a save rejects, too.
      effect('killed', ctx);
      throw error;
    }
    effect('end', ctx);
    return handOver(ctx, { epoch, steps: input.steps });
  },
});

/** Items of fan-outs. */
export const square = task({
  id: 'square',
  run(n: number, ctx) {
    effect('begin', ctx);
    effect('end', ctx);
    return handOver(ctx, n * n);
  },
});

export const gather = task({
  id: 'gather',
  run(list: readonly unknown[], ctx) {
    effect('begin', ctx);
    effect('end', ctx);
    return handOver(ctx, list);
  },
});

/** Steps of a function, counted by their keys. */
function notedSteps(ctx: WorkflowContext): (name: string, ms: number) => Promise<void> {
  const { runId } = ctx;
  const note = (what: 'activation' | 'step', stepKey: string) =>
    writeStep(ledger, { what, runId, stepKey, pid: process.pid, worker, atMs: Date.now() });
  note('activation', '');
  return (name, ms) =>
    ctx.step(name, async ({ stepKey }) => {
      note('step', stepKey);
      await new Promise((resolve) => setTimeout(resolve, ms));
    });
}

/** Takes signals, which may come before it waits for them; null for one that does not come. */
export const relay = workflow({
  id: 'relay',
  run: async (ctx) => {
    const step = notedSteps(ctx);
    const taken: unknown[] = [];
    for (let i = 0; i < SIGNALS; i++) {
      taken.push((await ctx.waitFor('part', { timeout: SIGNAL_MS })) ?? null);
      await step('taken', 5);
    }
    return taken;
  },
});

/** A durable function with everything else that it can wait for. */
export const saga = workflow({
  id: 'saga',
  run: async (ctx, n: number) => {
    const made = notedSteps(ctx);
    const step = async (name: string, ms: number) => {
      await made(name, ms);
      return n;
    };
    const one = await step('one', 5);
    await ctx.all([ctx.run(plain, { ms: 1 }), ctx.sleep(60)]);
    const [left, right] = await ctx.all([step('left', 20), step('right', 1)]);
    await ctx.sleep(250);
    const last = await step('last', 5);
    return one + 2 * left + 3 * right + 4 * last;
  },
});
