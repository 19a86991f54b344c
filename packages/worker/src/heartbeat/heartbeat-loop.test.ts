import { expect, onTestFinished, test, vi } from 'vitest';
import { monotonicMs } from '../clock.ts';
import { HeartbeatLoop } from './heartbeat-loop.ts';
import { SharedState } from './shared-state.ts';

test('the deadline of a heartbeat is a whole number of milliseconds, also when the lease is nearly over', async () => {
  const timeouts: number[] = [];
  const loop = new HeartbeatLoop({
    namespace: '',
    call: async (_, timeoutMs) => {
      timeouts.push(timeoutMs);
      throw new TypeError('away');
    },
    masters: { count: 1, url: 'http://127.0.0.1:1' },
    reset: () => {},
    shared: new SharedState(),
    load: { sample: () => ({ cpuPercent: 0, memoryPercent: 0 }) },
    stampEveryMs: 100,
    emit: () => {},
  });
  onTestFinished(() => loop.end());
  loop.begin({ sessionId: '1', leaseTtlMs: 600, intervalMs: 400, renewedAtMs: monotonicMs() + 0.123 });
  await vi.waitFor(() => expect(timeouts.some((each) => each < 400)).toBe(true), { interval: 5, timeout: 20_000 });
  expect(timeouts.filter((each) => !Number.isInteger(each))).toEqual([]);
});

test('with several masters no one of them uses up the lease by its silence', async () => {
  const calls: { leftMs: number; timeoutMs: number }[] = [];
  const leaseTtlMs = 600;
  const renewedAtMs = monotonicMs();
  const loop = new HeartbeatLoop({
    namespace: '',
    call: async (_, timeoutMs) => {
      calls.push({ leftMs: renewedAtMs + leaseTtlMs - monotonicMs(), timeoutMs });
      throw new TypeError('away');
    },
    masters: { count: 3, url: 'http://127.0.0.1:1' },
    reset: () => {},
    shared: new SharedState(),
    load: { sample: () => ({ cpuPercent: 0, memoryPercent: 0 }) },
    stampEveryMs: 100,
    emit: () => {},
  });
  onTestFinished(() => loop.end());
  loop.begin({ sessionId: '1', leaseTtlMs, intervalMs: 100_000, renewedAtMs });
  loop.beat();
  await vi.waitFor(() => expect(calls.length).toBeGreaterThan(0), { interval: 5, timeout: 20_000 });
  const [first] = calls;
  expect(first!.timeoutMs).toBeGreaterThanOrEqual(100);
  expect(first!.timeoutMs).toBeLessThan(first!.leftMs / 2);
});
