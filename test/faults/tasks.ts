/** What the workers of these tests can do. What a task does to the world is written to the directory in its input. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { type TaskContext, task } from '@baton/client';

export interface Scene {
  /** Where effects are written, and gates are opened. */
  readonly dir: string;
  /** The gate that holds it; default "open". With an epoch after it ("open-2") only that lease is let go. */
  readonly gate?: string;
  /** Bytes of the output. */
  readonly bytes?: number;
}

function write(scene: Scene, what: string, { taskId, epoch, attempt }: TaskContext): void {
  appendFileSync(join(scene.dir, 'effects'), `${JSON.stringify({ what, taskId, epoch, attempt, pid: process.pid })}\n`);
}

/** Ends at once. */
export const quick = task({
  id: 'quick',
  run(scene: Scene, ctx) {
    write(scene, 'end', ctx);
    return 'x'.repeat(scene.bytes ?? 1);
  },
});

/** Throws at once, each time. */
export const throws = task({
  id: 'throws',
  run(): never {
    throw new Error('no');
  },
});

/** Does not end before its gate is open; ends when it is told to. */
export const hold = task({
  id: 'hold',
  async run(scene: Scene, ctx) {
    const { signal } = ctx;
    const gate = join(scene.dir, scene.gate ?? 'open');
    write(scene, 'start', ctx);
    while (!existsSync(gate) && !existsSync(`${gate}-${ctx.epoch}`)) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (signal.aborted) {
        write(scene, 'aborted', ctx);
        throw signal.reason;
      }
    }
    write(scene, 'end', ctx);
    return { epoch: ctx.epoch, pid: process.pid, filling: 'x'.repeat(scene.bytes ?? 0) };
  },
});

/** Keeps the worker's main thread busy. */
export const block = task({
  id: 'block',
  run(scene: Scene & { readonly ms: number }, ctx) {
    write(scene, 'start', ctx);
    const until = performance.now() + scene.ms;
    while (performance.now() < until) {}
    return ctx.epoch;
  },
});

/** Takes its worker with it. */
export const poison = task({
  id: 'poison',
  run(scene: Scene, ctx) {
    write(scene, 'start', ctx);
    process.exit(7);
  },
});

/** Takes its worker with it the first time, fails the second time. */
export const crashThenFail = task({
  id: 'crash-then-fail',
  run(scene: Scene, ctx) {
    write(scene, 'start', ctx);
    if (ctx.epoch === 1) process.exit(7);
    throw new RangeError('no more');
  },
});

/** Takes a moment, a different one each time. */
export const short = task({
  id: 'short',
  async run(scene: Scene, ctx) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 30));
    if (ctx.signal.aborted) throw ctx.signal.reason;
    write(scene, 'end', ctx);
    return ctx.epoch;
  },
});

/** Gives a sign every so often, says how far it is, and then none any more; ends when it is told to, or its gate is open. */
export const fade = task({
  id: 'fade',
  async run(scene: Scene & { readonly signs: number; readonly everyMs: number }, ctx) {
    write(scene, 'start', ctx);
    for (let n = 1; n <= scene.signs; n++) {
      ctx.progress(n / scene.signs, `sign ${n} of ${scene.signs}`);
      await new Promise((resolve) => setTimeout(resolve, scene.everyMs));
      if (scene.gate !== undefined && existsSync(join(scene.dir, scene.gate))) return ctx.epoch;
    }
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve, { once: true }));
    write(scene, 'aborted', ctx);
    throw ctx.signal.reason;
  },
});

/** Has a process of its own do the work, and ends it when it is told to. The pid of its effect is that process's. */
export const withChild = task({
  id: 'with-child',
  async run(scene: Scene, ctx) {
    const child = spawn('sleep', ['600'], { signal: ctx.signal, stdio: 'ignore' });
    child.on('error', () => {});
    await once(child, 'spawn');
    const { taskId, epoch, attempt } = ctx;
    appendFileSync(
      join(scene.dir, 'effects'),
      `${JSON.stringify({ what: 'start', taskId, epoch, attempt, pid: child.pid })}\n`,
    );
    await once(child, 'exit').catch(() => {});
    throw ctx.signal.reason ?? new Error('its process ended by itself');
  },
});

/** Hears nothing and never ends by itself. */
export const deaf = task({
  id: 'deaf',
  async run(scene: Scene, ctx) {
    write(scene, 'start', ctx);
    await new Promise((resolve) => setTimeout(resolve, 600_000));
  },
});
