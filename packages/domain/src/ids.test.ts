import { describe, expect, it } from 'vitest';
import { compareIds, createIdMaker, ID_EPOCH_MS, idTimeMs, isId } from './ids.ts';

describe('ids', () => {
  it('rise, even when the clock stands still, overflows or goes back', () => {
    let now = ID_EPOCH_MS + 60_000_000_000;
    const ids = createIdMaker(3, () => now);
    let last = ids.next();
    for (let i = 0; i < 10_000; i++) {
      if (i === 9_000) now -= 5_000;
      const next = ids.next();
      expect(compareIds(next, last)).toBeGreaterThan(0);
      last = next;
    }
    expect(BigInt(last) < 1n << 63n).toBe(true);
  });

  it('differ between nodes within the same millisecond', () => {
    const now = () => ID_EPOCH_MS + 1_000;
    const seen = new Set<string>();
    for (const node of [0, 1, 1023]) {
      const ids = createIdMaker(node, now);
      for (let i = 0; i < 1000; i++) seen.add(ids.next());
    }
    expect(seen.size).toBe(3000);
  });

  it('stay above the floor that a former holder left', () => {
    const ahead = createIdMaker(1, () => ID_EPOCH_MS + 100_000).next();
    const ids = createIdMaker(1, () => ID_EPOCH_MS + 1_000, BigInt(ahead));
    expect(compareIds(ids.next(), ahead)).toBeGreaterThan(0);
  });

  it('are known from what can be none', () => {
    for (const id of ['1', createIdMaker(3, Date.now).next(), '9223372036854775807']) expect(isId(id)).toBe(true);
    for (const text of ['', '0', '01', '-1', '1.5', '1e3', '9223372036854775808', '9'.repeat(19), '1'.repeat(20)])
      expect(isId(text), text).toBe(false);
  });

  it('tell their time', () => {
    expect(idTimeMs(createIdMaker(9, () => ID_EPOCH_MS + 123_456).next())).toBe(ID_EPOCH_MS + 123_456);
  });

  it('refuse a node number out of range', () => {
    expect(() => createIdMaker(1024, Date.now)).toThrow(RangeError);
  });
});
