// Tasks that are carried out apart, for the tests beside.
import { setTimeout as sleep } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import { task } from '@baton/client';

let lives = 0;

const everything = async (input: unknown, ctx: Parameters<Parameters<typeof task>[0]['run']>[1]) => {
  ctx.log('a line');
  ctx.progress(0.5, 'half');
  await ctx.output.write('streamed');
  const before = await ctx.checkpoint.load();
  const number = await ctx.checkpoint.save({ at: 1 }, { score: 2 });
  return {
    input,
    before,
    number,
    latest: ctx.checkpoint.latest,
    attempt: ctx.attempt,
    devices: process.env.CUDA_VISIBLE_DEVICES,
  };
};
const where = () => ({ pid: process.pid, threadId, lives: ++lives, cwd: process.cwd(), env: { ...process.env } });
const endless = () => {
  for (;;);
};
const polite = async (_: unknown, ctx: { signal: AbortSignal; log(text: string): void }) => {
  ctx.log('up');
  await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
  ctx.log(`${(ctx.signal.reason as Error).name}: ${(ctx.signal.reason as { kind: string }).kind}`);
  throw ctx.signal.reason;
};
const throws = () => {
  throw Object.assign(new RangeError('too far'), { nonRetryable: true });
};
const uncaught = async () => {
  setTimeout(() => {
    throw new TypeError('nobody catches me');
  }, 1);
  await sleep(60_000);
};
const exits = () => process.exit(7);
const killed = () => process.kill(process.pid, 'SIGKILL');
const hungry = () => {
  const all: number[][] = [];
  for (;;) all.push(new Array(100_000).fill(1.5));
};
const prints = () => {
  console.log('out');
  console.error('err');
};
const refused = async (_: unknown, ctx: { checkpoint: { save(value: unknown): Promise<number> } }) =>
  ctx.checkpoint.save('x');
const saves = async (
  _: unknown,
  ctx: {
    signal: AbortSignal;
    log(text: string): void;
    onCheckpointNow(listener: () => unknown): void;
    checkpoint: { save(value: unknown): Promise<number> };
  },
) => {
  ctx.onCheckpointNow(() => ctx.checkpoint.save('now'));
  ctx.log('up');
  await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
};

const runs = {
  everything,
  where,
  endless,
  polite,
  throws,
  uncaught,
  exits,
  killed,
  prints,
  refused,
  saves,
} as unknown as Record<string, never>;
export const threads = Object.entries(runs).map(([id, run]) => task({ id: `thread-${id}`, isolation: 'thread', run }));
export const processes = Object.entries(runs).map(([id, run]) =>
  task({ id: `process-${id}`, isolation: 'process', run }),
);
export const hungryThread = task({ id: 'thread-hungry', isolation: { mode: 'thread', memoryMib: 32 }, run: hungry });
