import { expect, test } from 'vitest';
import { openWorker, recordingLogger } from '../testing/open-worker.ts';

test('a poll channel that is dead while heartbeats are fine is given up and opened again; what runs keeps its lease', {
  timeout: 60_000,
}, async () => {
  const recorder = recordingLogger();
  const { master, worker, executor } = await openWorker({
    master: { leaseTtlMs: 5_000, heartbeatIntervalMs: 300, longPollMs: 200 },
    log: recorder.log,
    heartbeatInThread: true,
  });
  await worker.start();
  const running = master.submit({ kind: 'hold' });
  const held = await executor.running(running);
  master.deafToExchanges = true;
  const polls = master.exchanges.length;
  await master.until(() => master.exchanges.length > polls);
  const beats = master.heartbeats.length;
  // The worker asks for nothing while its call has no answer: it gets nothing that it would not hear of.
  const waiting = master.submit({ kind: 'noop' });
  held.end();
  await recorder.until('exchange failed');
  expect(executor.started).toEqual([running]);
  expect(master.heartbeats.length).toBeGreaterThan(beats + 5);
  master.deafToExchanges = false;
  await master.result(running);
  await master.result(waiting);
  // The same session, the same lease; nothing was done twice.
  expect(master.registrations).toHaveLength(1);
  expect(master.deliveries.get(running)).toBe(1);
  expect(executor.started).toEqual([running, waiting]);
});
