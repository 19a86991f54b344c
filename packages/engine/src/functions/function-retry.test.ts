import type { RetriedEntry } from '@baton/store';
import { expect, test } from 'vitest';
import { droppedForRetry, droppedFrom } from './function-retry.ts';

const entry = (number: number, change: Partial<RetriedEntry> = {}): RetriedEntry => ({
  number,
  kind: 'step',
  name: `s${number}`,
  position: number,
  afterPosition: number - 1,
  failed: false,
  ...change,
});

test('the step that the run failed at is made again, and what succeeded is kept', () => {
  expect(droppedForRetry([entry(1), entry(2), entry(3, { failed: true })])).toEqual([3]);
});

test('a failure that the code went on from is kept', () => {
  expect(droppedForRetry([entry(1, { failed: true }), entry(2), entry(3, { failed: true })])).toEqual([3]);
});

test('of branches side by side all that failed last is made again, and what was cancelled with the run', () => {
  const side = { afterPosition: 0 };
  expect(
    droppedForRetry([
      entry(1, { ...side, position: 2, failed: true }),
      entry(2, { ...side, position: 1 }),
      entry(3, { ...side, position: 0, kind: 'task' }),
      entry(4, { ...side, position: 0, kind: 'sleep' }),
    ]),
  ).toEqual([1, 3]);
});

test('from a chosen entry, by name or number, all that came after it in the code goes', () => {
  const entries = [entry(1), entry(2), entry(3)];
  expect(droppedFrom(entries, ['s2'])).toEqual([2, 3]);
  expect(droppedFrom(entries, ['3', 's2'])).toEqual([2, 3]);
  expect(droppedFrom(entries, ['other'])).toBeNull();
});
