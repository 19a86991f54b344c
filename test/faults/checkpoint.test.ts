import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBaton } from '@baton/client';
import { MasterService } from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { EVENT } from '@baton/domain';
import { type StackOptions, startFaultProxy } from '@baton/testkit';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { learn, type Training } from './checkpoint-tasks.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { openStage, type Stage, until } from './stage.ts';

const timeout = 120_000;
const tasksModule = new URL('./checkpoint-tasks.ts', import.meta.url);

/** Leases that a loaded machine keeps. */
const calm = { BATON_LEASE_TTL_MS: '5000', BATON_HEARTBEAT_MS: '1000' };

interface Step {
  readonly what: 'resume' | 'step' | 'saved' | 'refused';
  readonly taskId: string;
  readonly epoch: number;
  readonly pid: number;
  readonly step: number;
  readonly number: number;
  readonly reason: string;
  readonly aborted: boolean;
}

/** What the tasks of a stage have done so far. */
function stepsOf(stage: Stage, what: Step['what'], epoch?: number): Step[] {
  const lines = readFileSync(join(stage.dir, 'steps'), 'utf8').split('\n');
  lines.pop(); // the last one is empty, or being written
  return lines
    .map((line) => JSON.parse(line) as Step)
    .filter((step) => step.what === what && (epoch === undefined || step.epoch === epoch));
}

async function play(stage: Stage, options: StackOptions = {}) {
  writeFileSync(join(stage.dir, 'steps'), '');
  const stack = await stage.start({ tasksModule, ...options });
  return { stack, ledger: stage.own(openLedger(stack.databaseUrl)), baton: createBaton({ url: stack.url }) };
}

const trainedTo = (steps: number): string => {
  let weights = '';
  for (let step = 1; step <= steps; step++) weights = learn(weights, step);
  return weights;
};

/** The newest checkpoint that Postgres has, past the master. */
async function newest(ledger: Ledger, taskId: string): Promise<{ number: number; step: number }> {
  const [row] = await ledger.sql`
    select number::int, coalesce((metadata ->> 'step')::int, 0) as step from baton.checkpoints
    where task_id = ${taskId} order by number desc limit 1`;
  return row ? { number: row.number, step: row.step } : { number: 0, step: 0 };
}

/** Numbers that were given, and the events of their saves: 1, 2, … each once. */
async function checkNumbers(ledger: Ledger, taskId: string): Promise<number> {
  const [counter] =
    await ledger.sql`select last_number::int as last from baton.checkpoint_counters where task_id = ${taskId}`;
  const [events] = await ledger.sql`
    select count(*)::int as count from baton.events, unnest(types, task_ids) e(type, task_id)
    where e.type = ${EVENT.checkpointSaved} and e.task_id = ${taskId}`;
  expect(events!.count).toBe(counter!.last);
  const rows =
    await ledger.sql`select number::int, epoch from baton.checkpoints where task_id = ${taskId} order by number`;
  // The last five; the best is among them, as scores rise.
  const kept = Math.min(5, counter!.last);
  expect(rows.map((row) => row.number)).toEqual(Array.from({ length: kept }, (_, i) => counter!.last - kept + 1 + i));
  expect(rows.map((row) => row.epoch)).toEqual(rows.map((row) => row.epoch).toSorted((a, b) => a - b));
  return counter!.last;
}

test.concurrent('a training that is killed again and again goes on from its newest checkpoint, and comes to the same', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { stack, ledger, baton } = await play(stage, { env: calm });
  const input: Training = { dir: stage.dir, steps: 60, saveEvery: 4, stepMs: 15 };
  const training = await baton.submit<string>({ kind: 'train', input });
  let worker = stack.worker('w1');
  const found: { number: number; step: number }[] = [];
  // In the middle: between two checkpoints, or while one is on its way.
  for (const more of [11, 6, 8]) {
    const done = stepsOf(stage, 'step').length;
    await until(() => stepsOf(stage, 'step').length >= done + more, `${more} steps more`, 60_000);
    await worker.kill('SIGKILL');
    // A save that was on its way when the worker died counts until the lease is over.
    await until(async () => (await training.status()).attempts[found.length]?.state === 'lost', 'the lease to end');
    // Nobody else is there: this is where the next attempt has to begin.
    found.push(await newest(ledger, training.id));
    const attempts = stepsOf(stage, 'resume').length;
    worker = await stack.addWorker();
    await until(() => stepsOf(stage, 'resume').length > attempts, 'the next attempt', 60_000);
    expect(stepsOf(stage, 'resume')[attempts]).toMatchObject({ ...found.at(-1), pid: worker.pid });
  }
  expect(await training.result()).toBe(trainedTo(60));

  expect(found.map(({ number }) => number)).toEqual(found.map(({ number }) => number).toSorted((a, b) => a - b));
  expect(found.at(-1)!.number).toBeGreaterThanOrEqual(4);
  for (const { epoch, step } of stepsOf(stage, 'resume')) {
    // Nothing before the checkpoint is done again; what came after it is.
    expect(stepsOf(stage, 'step', epoch)[0]?.step ?? step + 1).toBe(step + 1);
    const later = stepsOf(stage, 'step').filter((each) => each.epoch >= epoch);
    expect(later.filter((each) => each.step <= step)).toEqual([]);
  }
  expect(await checkNumbers(ledger, training.id)).toBe(15);
  const states = (await training.status()).attempts.map(({ state }) => state);
  expect(states.filter((state) => state === 'lost').length).toBeGreaterThanOrEqual(3);
  expect(states.at(-1)).toBe('succeeded');
  expect(await ledger.problems([training.id])).toEqual([]);
});

test.concurrent('a save whose answer was lost after its commit is one checkpoint', { timeout }, async (context) => {
  await using stage = await openStage(context);
  const { stack, ledger, baton } = await play(stage, { workers: 0 });
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } }));
  await stack.addWorker({ env: { BATON_URL: proxy.url } });
  for (const [round, bytes] of [20_000, 100_000, 700_000].entries()) {
    const saving = await baton.submit<number>({ kind: 'save-once', input: { dir: stage.dir, bytes } });
    await until(() => stepsOf(stage, 'resume').length > round, 'the task to start');
    // A large one is uploaded before; its last call is the one that names the blob.
    const lost = bytes > 256 * 1024 ? undefined : proxy.loseAnswer({ requestBytes: bytes });
    if (!lost) void proxy.loseAnswer({ requestBytes: 100_000 });
    stage.open('go');
    await lost;
    expect(await saving.result()).toBe(1);
    expect(await checkNumbers(ledger, saving.id)).toBe(1);
    const [saves] = await ledger.sql`select count(*)::int as count from baton.checkpoints where task_id = ${saving.id}`;
    expect(saves!.count).toBe(1);
    const content = await baton.checkpoints.get(saving.id);
    expect(content.inBlob).toBe(bytes > 256 * 1024);
    expect(await content.value()).toBe('x'.repeat(bytes));
  }
});

test.concurrent('a save of a lease that is another’s by now is refused with LEASE_LOST and leaves nothing', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { stack, ledger, baton } = await play(stage, {
    env: { BATON_LEASE_TTL_MS: '1500', BATON_HEARTBEAT_MS: '300' },
  });
  const saving = await baton.submit<number>({ kind: 'save-once', input: { dir: stage.dir, bytes: 100 } });
  await until(() => stepsOf(stage, 'resume').length === 1, 'the task to start');
  const [lease] = await ledger.sql`select session_id, epoch from baton.leases where task_id = ${saving.id}`;
  const save = (epoch: number, sessionId: string, saveId: string) =>
    createClient(MasterService, createGrpcTransport({ baseUrl: stack.url })).saveCheckpoint({
      sessionId,
      taskId: saving.id,
      epoch,
      saveId,
      content: { case: 'data', value: Uint8Array.of(1) },
    });
  await stack.worker('w1').kill('SIGSTOP');
  await stack.addWorker();
  await until(() => stepsOf(stage, 'resume').length === 2, 'another worker to start it');

  for (const [epoch, sessionId] of [
    [1, lease!.session_id],
    [2, lease!.session_id],
    [3, lease!.session_id],
  ] as const) {
    const error = await save(epoch, sessionId, `stale-${epoch}-000`).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConnectError);
    expect((error as ConnectError).code).toBe(Code.FailedPrecondition);
    expect((error as ConnectError).findDetails(errorDetails.ErrorInfoSchema)[0]?.reason).toBe('LEASE_LOST');
  }
  const [before] = await ledger.sql`
    select (select count(*) from baton.checkpoints)::int as rows, (select count(*) from baton.checkpoint_counters)::int as counters`;
  expect(before).toEqual({ rows: 0, counters: 0 });

  // The worker that slept wakes up, and its task wants to save at once.
  stage.open('go');
  await stack.worker('w1').kill('SIGCONT');
  expect(await saving.result()).toBe(1);
  await until(() => stepsOf(stage, 'refused').length === 1, 'the stale save to be refused');
  expect(stepsOf(stage, 'refused')).toMatchObject([{ epoch: 1, aborted: true }]);
  const rows = await ledger.sql`select number::int, epoch from baton.checkpoints where task_id = ${saving.id}`;
  expect([...rows]).toEqual([{ number: 1, epoch: 2 }]);
  expect(await checkNumbers(ledger, saving.id)).toBe(1);
  expect(await ledger.problems([saving.id])).toEqual([]);
});

test.concurrent('masters that die under saves lose none and count none twice', { timeout }, async (context) => {
  await using stage = await openStage(context);
  const { stack, ledger, baton } = await play(stage, { env: { BATON_LEASE_TTL_MS: '20000' } });
  const input: Training = { dir: stage.dir, steps: 80, saveEvery: 2, stepMs: 10 };
  const training = await baton.submit<string>({ kind: 'train', input });
  for (const saved of [5, 15, 25]) {
    await until(() => stepsOf(stage, 'saved').length >= saved, `${saved} saves`);
    await stack.master.restart();
  }
  expect(await training.result()).toBe(trainedTo(80));
  expect(stepsOf(stage, 'saved').map((each) => each.number)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  expect(await checkNumbers(ledger, training.id)).toBe(40);
  expect((await training.status()).attempts).toMatchObject([{ epoch: 1, state: 'succeeded' }]);
});

test.concurrent('the connection of a worker breaks again and again under saves: each counts once', {
  timeout,
}, async (context) => {
  await using stage = await openStage(context);
  const { stack, ledger, baton } = await play(stage, { workers: 0, env: { BATON_LEASE_TTL_MS: '20000' } });
  const proxy = stage.own(await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } }));
  await stack.addWorker({ env: { BATON_URL: proxy.url } });
  const input: Training = { dir: stage.dir, steps: 60, saveEvery: 1, stepMs: 5 };
  const training = await baton.submit<string>({ kind: 'train', input });
  let cuts = 0;
  const breaking = setInterval(() => {
    cuts += proxy.reset();
  }, 150);
  try {
    expect(await training.result()).toBe(trainedTo(60));
  } finally {
    clearInterval(breaking);
  }
  expect(cuts).toBeGreaterThan(3);
  expect(stepsOf(stage, 'saved').map((each) => each.number)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  expect(await checkNumbers(ledger, training.id)).toBe(60);
});
