import { expect, onTestFinished, test, vi } from 'vitest';
import { monotonicMs } from './clock.ts';
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
    reset: () => {},
    shared: new SharedState(),
    load: { sample: () => ({ cpuPercent: 0, memoryPercent: 0 }) },
    stampEveryMs: 100,
    emit: () => {},
  });
  onTestFinished(() => loop.end());
  loop.begin({ sessionId: '1', leaseTtlMs: 600, intervalMs: 400, renewedAtMs: monotonicMs() + 0.123 });
  await vi.waitFor(() => expect(timeouts.some((each) => each < 400)).toBe(true), { interval: 5 });
  expect(timeouts.filter((each) => !Number.isInteger(each))).toEqual([]);
});
