import { expect, test } from 'vitest';
import { Prefetch } from './prefetch.ts';

const dry = { left: 0, idle: true };

function short(): Prefetch {
  const prefetch = new Prefetch(10, 500);
  for (let i = 0; i < 100; i++) {
    prefetch.taskEnded(0.01);
  }
  return prefetch;
}

test('nothing is fetched ahead until tasks have proved to be short', () => {
  const prefetch = new Prefetch(10, 500);
  prefetch.roundTrip({ asked: 10, given: 10, ...dry });
  expect(prefetch.value).toBe(0);
  prefetch.taskEnded(150);
  prefetch.roundTrip({ asked: 10, given: 10, ...dry });
  expect(prefetch.value).toBe(0);
});

test('a worker that ran dry before the answer doubles it, up to the cap', () => {
  const prefetch = short();
  const values = Array.from({ length: 8 }, () => {
    prefetch.roundTrip({ asked: 10, given: 10, ...dry });
    return prefetch.value;
  });
  expect(values).toEqual([10, 20, 40, 80, 160, 320, 500, 500]);
});

test('it does not grow when the master had no more', () => {
  const prefetch = short();
  prefetch.roundTrip({ asked: 10, given: 3, ...dry });
  expect(prefetch.value).toBe(0);
});

test('it falls when plenty was left, and is gone when tasks become long', () => {
  const prefetch = short();
  prefetch.roundTrip({ asked: 10, given: 10, ...dry });
  prefetch.roundTrip({ asked: 20, given: 20, left: 9, idle: false });
  expect(prefetch.value).toBe(9);
  for (let i = 0; i < 100; i++) {
    prefetch.taskEnded(5_000);
  }
  expect(prefetch.value).toBe(0);
});
