import { describe, expect, it } from 'vitest';
import { createSignals } from './signals.ts';

describe('signals', () => {
  it('wake everyone who waits on the key, and nobody else', async () => {
    const signals = createSignals<string>();
    const a = [signals.wait('a', 10_000), signals.wait('a', 10_000)];
    const b = signals.wait('b', 1);
    signals.raise('a');
    expect(await Promise.all(a)).toEqual([true, true]);
    expect(await b).toBe(false);
    expect(signals.waiting()).toBe(0);
  });

  it('wake who waits on any of several keys, once, and leave nothing behind', async () => {
    const signals = createSignals<string>();
    const any = signals.waitAny(['a', 'b', 'b', 'c'], 10_000);
    const c = signals.wait('c', 10_000);
    signals.raise('b');
    expect(await any).toBe(true);
    expect(signals.waiting()).toBe(1);
    signals.raise('a');
    signals.raise('c');
    expect(await c).toBe(true);
    expect(signals.waiting()).toBe(0);
  });

  it('end with the abort signal', async () => {
    const signals = createSignals<string>();
    const abort = new AbortController();
    const waiting = signals.wait('a', 10_000, abort.signal);
    abort.abort();
    expect(await waiting).toBe(false);
    expect(await signals.wait('a', 10_000, abort.signal)).toBe(false);
    expect(signals.waiting()).toBe(0);
  });
});
