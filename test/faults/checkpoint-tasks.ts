/** Tasks that go on from their checkpoints. What they do is written to `steps` in the directory of their input. */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type TaskContext, task } from '@baton/client';

export interface Training {
  readonly dir: string;
  readonly steps: number;
  readonly saveEvery: number;
  readonly stepMs: number;
}

interface State {
  readonly step: number;
  readonly weights: string;
  /** Makes some checkpoints too large for a row. */
  readonly padding: string;
}

function write(dir: string, what: string, ctx: TaskContext, more: object = {}): void {
  const { taskId, epoch } = ctx;
  appendFileSync(join(dir, 'steps'), `${JSON.stringify({ what, taskId, epoch, pid: process.pid, ...more })}\n`);
}

/** One step of the training: what comes of it depends on all steps before. */
export function learn(weights: string, step: number): string {
  return createHash('sha256').update(`${weights} ${step}`).digest('hex');
}

/** Every second checkpoint is a blob. */
function stateOf(step: number, weights: string, saves: number): State {
  return { step, weights, padding: 'x'.repeat(saves % 2 === 0 ? 0 : 300_000) };
}

export const train = task({
  id: 'train',
  async run({ dir, steps, saveEvery, stepMs }: Training, ctx) {
    const found = await ctx.checkpoint.load<State>();
    let { step, weights } = found ?? { step: 0, weights: '' };
    write(dir, 'resume', ctx, { step, number: ctx.checkpoint.latest });
    while (step < steps) {
      ctx.signal.throwIfAborted();
      step++;
      weights = learn(weights, step);
      write(dir, 'step', ctx, { step });
      if (step % saveEvery === 0) {
        const number = await ctx.checkpoint.save(stateOf(step, weights, step / saveEvery), {
          score: step,
          metadata: { step: String(step) },
        });
        write(dir, 'saved', ctx, { step, number });
      }
      await pause(stepMs);
    }
    return weights;
  },
});

/** Waits for its gate, saves once, and returns the number. */
export const saveOnce = task({
  id: 'save-once',
  async run({ dir, bytes }: { readonly dir: string; readonly bytes: number }, ctx) {
    write(dir, 'resume', ctx, { step: 0, number: ctx.checkpoint.latest });
    while (!existsSync(join(dir, 'go'))) await pause(20);
    try {
      const number = await ctx.checkpoint.save('x'.repeat(bytes));
      write(dir, 'saved', ctx, { number });
      return number;
    } catch (error) {
      const { name, message } = error as Error;
      write(dir, 'refused', ctx, { reason: `${name}: ${message}`, aborted: ctx.signal.aborted });
      throw error;
    }
  },
});
