import { createBaton } from '@baton/client';
import { openSql } from '@baton/store';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';
import { openStage, until } from './stage.ts';

test('locked rows and 200 callers: the extra load is refused at once, heartbeats go on, and all is well afterwards', {
  timeout: 60_000,
}, async (context) => {
  await using stage = await openStage(context);
  const stack = await stage.start({ env: { BATON_LEASE_TTL_MS: '20000' } });
  const ledger = stage.own(openLedger(stack.databaseUrl));
  const baton = createBaton({ url: stack.url, retry: { attempts: 1 } });
  const running = await baton.submit({ kind: 'hold', input: { dir: stage.dir } });
  await stage.until('start', 1);
  // What a master learns of a kind once is known by then.
  await (await baton.submit({ kind: 'quick', input: { dir: stage.dir } })).result();

  const admin = openSql(stack.databaseUrl, { max: 1 });
  stage.own({ [Symbol.asyncDispose]: () => admin.end({ timeout: 0 }) });
  // Somebody changes the table of tasks by hand, and takes 8 s for it.
  const locking = admin.unsafe(
    `do $$ begin lock table baton.tasks in access exclusive mode; perform pg_sleep(8); end $$`,
  );
  let unlocked = false;
  void locking.then(() => {
    unlocked = true;
  });
  await until(
    async () =>
      (
        await ledger.sql`select from pg_locks where relation = 'baton.tasks'::regclass and mode = 'AccessExclusiveLock' and granted`
      ).length > 0,
    'the lock',
  );
  const renewals = async () =>
    Number((await ledger.sql`select extract(epoch from max(renewed_at)) * 1000 as ms from baton.sessions`)[0]!.ms);
  const renewedBefore = await renewals();

  const outcome = (call: Promise<unknown>) =>
    call.then(
      () => 'answered',
      (error) => error.reason as string,
    );
  const read = () => outcome(baton.tasks.get(running.id, { timeoutMs: 20_000 }));
  const submit = () => outcome(baton.submit({ kind: 'quick', input: { dir: stage.dir }, timeoutMs: 20_000 }));
  // As many as there are connections to wait on, and some.
  const early = [...Array.from({ length: 60 }, read), submit()];
  await new Promise((resolve) => setTimeout(resolve, 200));
  early.push(submit());
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  expect(unlocked).toBe(false);
  const late = await Promise.all([...Array.from({ length: 120 }, read), ...Array.from({ length: 20 }, submit)]);
  // All of them have their answer while the rows are still locked.
  expect(unlocked).toBe(false);
  expect(late.filter((each) => each === 'OVERLOADED').length).toBeGreaterThan(100);
  // The worker's session was renewed all the while, by a pool of its own.
  expect((await renewals()) - renewedBefore).toBeGreaterThan(2_000);

  await locking;
  // Who was let in is served; nobody was told an untruth; the next ones are as welcome as before.
  expect(new Set(await Promise.all(early))).toEqual(new Set(['answered']));
  expect(await read()).toBe('answered');
  const next = await baton.submit({ kind: 'quick', input: { dir: stage.dir } });
  expect(await next.result()).toBe('x');
  stage.open();
  expect(await running.result()).toMatchObject({ epoch: 1 });
  const [counts] = await ledger.sql`select count(*)::int as tasks from baton.tasks`;
  expect(counts!.tasks).toBeLessThan(20);
});
