import { existsSync } from 'node:fs';
import { task, workflow } from '@baton/client';

const until = async (file: string, signal: AbortSignal) => {
  while (!existsSync(file)) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

/** Streams two lines; the second one when a file is there. */
export const talk = task({
  id: 'talk',
  run: async ({ gate }: { gate: string }, ctx) => {
    await ctx.output.write('one\n');
    await until(gate, ctx.signal);
    await ctx.output.write('two\n');
    return 'said';
  },
});

/** More than a message holds, as a blob. */
export const large = task({
  id: 'large',
  run: (count: number, ctx) =>
    ctx.blob<{ index: number; text: string }[]>(
      JSON.stringify(Array.from({ length: count }, (_, i) => ({ index: i, text: 'x'.repeat(50) }))),
      { encoding: 'json' },
    ),
});

export const largeBytes = task({
  id: 'large-bytes',
  run: (size: number, ctx) => ctx.blob(new Uint8Array(size).fill(7)),
});

export const count = task({ id: 'count', run: (list: unknown) => (Array.isArray(list) ? list.length : -1) });

export const bytesOf = task({
  id: 'bytes-of',
  run: (input: unknown) => (input instanceof Uint8Array ? input.byteLength : -1),
});

export const indexOf = task({ id: 'index-of', run: ({ index }: { index: number }) => index });

export const approval = workflow({
  id: 'approval',
  run: async (ctx) => {
    await ctx.step('ask', () => 'asked');
    const answer = await ctx.waitFor<string>('answer');
    return ctx.step('use', () => answer);
  },
});
