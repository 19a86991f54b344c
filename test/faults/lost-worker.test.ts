import { createBaton } from '@baton/client';
import { MasterService } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

const timeout = 120_000;

test.concurrent('what a killed worker held is done by another, within its lease and a sweep, and costs no attempt', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start();
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });

  const held = await baton.submit({ kind: 'hold', input: { dir: stage.dir }, retry: { maxAttempts: 1 } });
  const [before] = await stage.until('start', 1);
  await stack.addWorker();
  await stack.worker('w1').kill('SIGKILL');
  const [, after] = await stage.until('start', 2);
  expect(after).toMatchObject({ epoch: 2, pid: stack.worker('w2').pid });
  expect(after!.pid).not.toBe(before!.pid);
  stage.open();
  expect(await held.result()).toMatchObject({ epoch: 2 });

  const { attempts, maxAttempts } = await held.status();
  expect(maxAttempts).toBe(1);
  expect(attempts).toMatchObject([
    { epoch: 1, state: 'lost', worker: 'w1', failure: { type: 'WORKER_CRASH' } },
    { epoch: 2, state: 'succeeded', worker: 'w2' },
  ]);
  const [reclaimed] = await ledger.sql`
    select extract(epoch from a.ended_at - s.renewed_at) * 1000 as after_ms
    from baton.attempts a join baton.sessions s on s.id = a.session_id where a.state = 'lost'`;
  expect(Number(reclaimed!.after_ms)).toBeGreaterThanOrEqual(3_000);
  // A loaded machine sweeps late; a lease that only something else than sweeps ends is not ended by then.
  expect(Number(reclaimed!.after_ms)).toBeLessThan(20_000);
  expect(await ledger.problems([held.id])).toEqual([]);
});

test.concurrent('a crash does not use up the attempts that failures have', { timeout }, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 2, env: { BATON_LEASE_TTL_MS: '2500' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const retry = { maxAttempts: 2, initialDelayMs: 1 };
  const task = await baton.submit({ kind: 'crash-then-fail', input: { dir: stage.dir }, retry });
  await expect(task.result()).rejects.toThrow('no more');
  const states = (await task.status()).attempts.map(({ state }) => state);
  expect(states[0]).toBe('lost');
  expect(states.filter((state) => state !== 'lost')).toEqual(['failed', 'failed']);
  expect(await ledger.problems([task.id])).toEqual([]);
});

test.concurrent('a worker that was stopped beyond its lease ends what it ran, its results are refused, and it works again', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start();
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const stopped = stack.worker('w1');

  // One is still at work when its worker wakes up, one is about to end: what it has to say then comes too late.
  const working = await baton.submit({ kind: 'hold', input: { dir: stage.dir, gate: 'working' } });
  const ending = await baton.submit({ kind: 'hold', input: { dir: stage.dir, gate: 'ending' } });
  await stage.until('start', 2);
  const [{ id: oldSession }] = (await ledger.sql`select id from baton.sessions`) as unknown as [{ id: string }];
  await stopped.kill('SIGSTOP');
  await stack.addWorker();
  await stage.until('start', 4);
  stage.open('ending');
  expect(await ending.result()).toMatchObject({ epoch: 2, pid: stack.worker('w2').pid });

  await stopped.kill('SIGCONT');
  await stage.until('aborted', 1, working.id);
  stage.open('working-2');
  expect(await working.result()).toMatchObject({ epoch: 2, pid: stack.worker('w2').pid });
  await until(() => stopped.log.split('worker registered').length > 2, 'the worker to register again');
  const again = await baton.submit({ kind: 'quick', input: { dir: stage.dir }, tags: ['worker:w1'] });
  expect(await again.result()).toBe('x');

  // What the runtime held back, said on the wire by somebody who does not know that it is over.
  const late = createClient(MasterService, createGrpcTransport({ baseUrl: stack.url }));
  const results = [working, ending].map(({ id }) => ({
    taskId: id,
    epoch: 1,
    outcome: { case: 'success' as const, value: { output: new TextEncoder().encode('"late"'), encoding: 1 } },
  }));
  const refused = await late.exchange({ sessionId: oldSession, number: 99n, results }).catch(ConnectError.from);
  expect(refused).toMatchObject({ code: Code.FailedPrecondition });
  expect((refused as ConnectError).findDetails(errorDetails.ErrorInfoSchema)[0]?.reason).toBe('SESSION_LOST');
  const beat = await late.heartbeat({ sessionId: oldSession, digest: { count: 2 } }).catch(ConnectError.from);
  expect(beat).toMatchObject({ code: Code.FailedPrecondition });
  // Nor by a session that lives, but for a lease that is another's.
  const [{ session_id: living }] = (await ledger.sql`
    select w.session_id from baton.workers w where name = 'w1'`) as unknown as [{ session_id: string }];
  const answer = await late.exchange({ sessionId: living, number: 99n, results });
  expect(answer.refused.map(({ reason }) => reason)).toEqual(['LEASE_LOST', 'LEASE_LOST']);

  const ends = await Promise.all([working.status(), ending.status()]);
  for (const end of ends) {
    expect(end.output).toMatchObject({ epoch: 2 });
    expect(end.attempts.map(({ state }) => state)).toEqual(['lost', 'succeeded']);
  }
  expect(await ledger.problems([working.id, ending.id, again.id])).toEqual([]);
});

test.concurrent('a task that blocks the event loop for longer than its lease keeps it', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ workers: 2, env: { BATON_WORKER_SLOTS: '1' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  await until(async () => {
    const [row] = await ledger.sql`
      select count(*)::int as renewed from baton.sessions where state = 'active' and renewed_at > registered_at`;
    return row!.renewed === 2;
  }, 'the first heartbeats');
  const task = await baton.submit({ kind: 'block', input: { dir: stage.dir, ms: 4_500 } });
  expect(await task.result()).toBe(1);
  expect((await task.status()).attempts).toMatchObject([{ epoch: 1, state: 'succeeded' }]);
  expect(stage.effects('start')).toHaveLength(1);
  const [sessions] = await ledger.sql`select count(*)::int as count from baton.sessions where state = 'active'`;
  expect(sessions!.count).toBe(2);
});

test.concurrent('a task that kills every worker is failed as poison, saying so, and the queue goes on', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env: { BATON_LEASE_TTL_MS: '60000', BATON_WORKER_SLOTS: '1' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url });
  const poison = await baton.submit({ kind: 'poison', input: { dir: stage.dir }, priority: 10 });
  const other = await baton.submit({ kind: 'quick', input: { dir: stage.dir } });
  const [worker] = stack.workers;
  const failed = poison.result().then(
    () => undefined,
    (error: Error) => error,
  );
  for (let crashes = 1; crashes <= 5; crashes++) {
    await worker!.exited;
    await ledger.expire('w1');
    await worker!.restart();
    await stage.until('start', Math.min(5, crashes + 1));
  }
  expect((await failed)?.message).toMatch(/WORKER_CRASH.*5 workers were lost/);
  const { attempts } = await poison.status();
  expect(attempts.map(({ state, epoch }) => `${epoch} ${state}`)).toEqual([1, 2, 3, 4, 5].map((n) => `${n} lost`));
  expect(await other.result()).toBe('x');
  expect(worker!.running).toBe(true);
  expect(await ledger.problems([poison.id, other.id])).toEqual([]);
});
