import { describe, expect, it } from 'vitest';
import { createCoalescer } from './coalescer.ts';

function recorder() {
  const batches: number[][] = [];
  const gates: (() => void)[] = [];
  const run = (batch: number[]) => {
    batches.push(batch);
    return new Promise<number[]>((resolve) => gates.push(() => resolve(batch.map((n) => n * 10))));
  };
  const opened = async (n: number) => {
    while (gates.length <= n) await new Promise((r) => setTimeout(r, 1));
    gates[n]!();
  };
  return { batches, run, opened };
}

describe('a coalescer', () => {
  it('does what arrives together in one batch, and what arrives meanwhile in the next', async () => {
    const { batches, run, opened } = recorder();
    const c = createCoalescer({ run, maxItems: 100 });
    const first = [1, 2, 3].map((n) => c.add(n));
    const gate = opened(0);
    await new Promise((r) => setTimeout(r, 5));
    const later = [4, 5].map((n) => c.add(n));
    await gate;
    expect(await Promise.all(first)).toEqual([10, 20, 30]);
    await opened(1);
    expect(await Promise.all(later)).toEqual([40, 50]);
    expect(batches).toEqual([
      [1, 2, 3],
      [4, 5],
    ]);
    await c.idle();
  });

  it('bounds a batch by rows and by bytes, and takes one item whatever its size', async () => {
    const sizes: number[][] = [];
    const c = createCoalescer<number, number>({
      run: async (batch) => {
        sizes.push(batch);
        return batch;
      },
      maxItems: 3,
      maxBytes: 10,
      sizeOf: (n) => n,
    });
    await Promise.all([6, 6, 1, 1, 1, 99, 1].map((n) => c.add(n)));
    expect(sizes).toEqual([[6], [6, 1, 1], [1], [99], [1]]);
  });

  it('gives every caller of a failed batch the error, and goes on', async () => {
    let calls = 0;
    const c = createCoalescer<number, number>({
      run: async (batch) => {
        if (calls++ === 0) throw new RangeError('down');
        return batch;
      },
      maxItems: 10,
    });
    const results = await Promise.allSettled([c.add(1), c.add(2)]);
    expect(results.map((r) => r.status)).toEqual(['rejected', 'rejected']);
    expect(await c.add(3)).toBe(3);
  });

  it('ends a turn as it is told to', async () => {
    const turns: (() => void)[] = [];
    const c = createCoalescer<number, number>({
      run: async (batch) => batch.map(() => batch.length),
      maxItems: 10,
      endOfTurn: (step) => turns.push(step),
    });
    const answers = Promise.all([c.add(1), c.add(2)]);
    expect(turns).toHaveLength(1);
    turns[0]!();
    expect(await answers).toEqual([2, 2]);
  });

  it('refuses what would have to wait for too long, behind too many or too much, and takes it when that is over', async () => {
    const { run, batches, opened } = recorder();
    const shed = { maxWaiting: 3, maxWaitingBytes: 100, stuckMs: 50, refusal: () => new RangeError('full') };
    const c = createCoalescer<number, number>({ run, maxItems: 10, sizeOf: (n) => n, shed });
    const under = c.add(1);
    while (batches.length < 1) await new Promise((r) => setTimeout(r, 1));
    // Behind too much.
    const large = c.add(99);
    const last = c.add(1);
    await expect(c.add(1)).rejects.toThrow('full');
    await opened(0);
    await under;
    await opened(1);
    expect(await Promise.all([large, last])).toEqual([990, 10]);
    // Behind too many.
    const first = c.add(1);
    while (batches.length < 3) await new Promise((r) => setTimeout(r, 1));
    const waiting = [1, 2, 3].map((n) => c.add(n));
    await expect(c.add(4)).rejects.toThrow('full');
    // Behind a batch that is stuck, though there is room.
    await opened(2);
    await first;
    while (batches.length < 4) await new Promise((r) => setTimeout(r, 1));
    await new Promise((r) => setTimeout(r, 60));
    await expect(c.add(5)).rejects.toThrow('full');
    await opened(3);
    await Promise.all(waiting);
    const after = c.add(6);
    await opened(4);
    expect(await after).toBe(60);
    expect(batches).toEqual([[1], [99, 1], [1], [1, 2, 3], [6]]);
  });
});
