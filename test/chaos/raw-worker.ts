import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { FailureType, type Lease, TaskResultSchema } from '@baton/contract';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { HEARTBEAT_MS, LEASE_TTL_MS } from './cluster.ts';
import type { Random } from './random.ts';
import { type RawMaster, refusalOf } from './raw-call.ts';
import { nowMs, type Recorder } from './recorder.ts';

const SLOTS = 6;
const CALL_TIMEOUT_MS = 4_000;
const OUTPUT = new TextEncoder().encode('"raw"');

const REPORTED = {
  success: 'succeeded',
  failure: 'failed',
  cancelled: 'cancelled',
  returned: 'returned',
  suspended: 'returned',
} as const;

type Result = MessageInitShape<typeof TaskResultSchema>;

/** A worker that speaks the protocol call by call, and badly: it sends calls twice, by two masters, late, again, with wrong epochs. */
export interface RawWorker {
  /** Its living session, if it has one. */
  readonly sessionId: string | undefined;
  /** No more silences: what is open is to come to its end. */
  calmDown(): void;
  /** Takes nothing new; resolves when it has left. */
  stop(): Promise<void>;
}

interface RawSession {
  readonly id: string;
  readonly held: Map<string, number>;
  over: boolean;
  silentUntilMs: number;
}

export interface RawWorkerOptions {
  readonly name: string;
  readonly masters: readonly RawMaster[];
  readonly random: Random;
  readonly recorder: Recorder;
}

export function startRawWorker({ name, masters, random, recorder }: RawWorkerOptions): RawWorker {
  let stopping = false;
  let calm = false;
  let session: RawSession | undefined;
  const farewells = new Set<Promise<void>>();
  let calls = 0n;

  /** Sends results by one master and records what came of each. Undefined: no answer. */
  async function report(
    { id: sessionId }: { readonly id: string },
    results: readonly Result[],
    by: RawMaster = random.pick(masters),
  ): Promise<readonly boolean[] | undefined> {
    const invokedAtMs = nowMs();
    const record = (result: Result, outcome: 'ok' | 'fail' | 'info', reason?: string) =>
      recorder.call({
        type: 'complete',
        by: name,
        sessionId,
        taskId: result.taskId!,
        epoch: result.epoch!,
        reported: REPORTED[result.outcome!.case!],
        invokedAtMs,
        answeredAtMs: outcome === 'info' ? null : nowMs(),
        outcome,
        ...(reason && { reason }),
      });
    const request = { sessionId, number: ++calls, results: results.map((each) => create(TaskResultSchema, each)) };
    try {
      const { refused } = await by.exchange(request, { timeoutMs: CALL_TIMEOUT_MS });
      return results.map((result) => {
        const refusal = refused.find(({ taskId, epoch }) => taskId === result.taskId && epoch === result.epoch);
        record(result, refusal === undefined ? 'ok' : 'fail', refusal?.reason);
        return refusal === undefined;
      });
    } catch (error) {
      const reason = refusalOf(error);
      for (const result of results) record(result, reason === undefined ? 'info' : 'fail', reason);
      return reason === undefined ? undefined : results.map(() => false);
    }
  }

  /** Saves a checkpoint of a lease, twice at once with the same id; with an epoch that is not its own it must be refused. */
  async function save({ id: sessionId }: RawSession, taskId: string, epoch: number): Promise<void> {
    const saveId = randomUUID();
    const request = {
      sessionId,
      taskId,
      epoch,
      saveId,
      content: { case: 'data' as const, value: OUTPUT },
      encoding: 1,
    };
    const once = async (by: RawMaster): Promise<void> => {
      const invokedAtMs = nowMs();
      const call = { type: 'checkpoint', by: name, sessionId, taskId, epoch, saveId, invokedAtMs } as const;
      try {
        const { number } = await by.saveCheckpoint(request, { timeoutMs: CALL_TIMEOUT_MS });
        recorder.call({ ...call, answeredAtMs: nowMs(), outcome: 'ok', number: Number(number) });
      } catch (error) {
        const reason = refusalOf(error);
        const answeredAtMs = reason === undefined ? null : nowMs();
        recorder.call({
          ...call,
          answeredAtMs,
          outcome: reason === undefined ? 'info' : 'fail',
          ...(reason && { reason }),
        });
      }
    };
    await Promise.all(random.shuffle(masters).slice(0, 2).map(once));
  }

  async function perform(own: RawSession, lease: Lease): Promise<void> {
    const { taskId, epoch } = lease;
    const [ms, manner, ending, again] = [random.whole(1, 200), random.next(), random.next(), random.chance(0.3)];
    const result: Result = { taskId, epoch, ranUs: BigInt(ms * 1_000), outcome: outcomeOf(ending) };
    if (again) await save(own, taskId, epoch);
    await sleep(ms);
    if (manner > 0.9) await save(own, taskId, epoch > 1 ? epoch - 1 : epoch + 1);
    if (manner < 0.01 && !calm) {
      // Not a word for longer than the lease, then the result.
      own.silentUntilMs = nowMs() + LEASE_TTL_MS * (1.2 + random.next());
      await sleep(own.silentUntilMs - nowMs());
      await report(own, [result]);
    } else if (manner < 0.2) {
      // An epoch that was not granted yet, one that is over, and then the right one; or all in one call.
      const wrong = [{ ...result, epoch: epoch + 1 }, ...(epoch > 1 ? [{ ...result, epoch: epoch - 1 }] : [])];
      if (manner < 0.12) await report(own, wrong);
      else await report(own, [...wrong, result]);
    } else if (manner < 0.45) {
      // The same call by two masters at once.
      const [one, other] = random.shuffle(masters);
      await Promise.all([report(own, [result], one), report(own, [result], other)]);
    }
    for (let tries = 0; !own.over && own.held.get(taskId) === epoch && tries < 20; tries++) {
      if ((await report(own, [result])) !== undefined) break;
      await sleep(100 * random.next());
    }
    if (own.held.get(taskId) === epoch) own.held.delete(taskId);
    if (!again) return;
    // The very same call once more, later: its answer is the same, and nothing happens. A checkpoint comes too late.
    await sleep(random.whole(500, 8_000));
    await save(own, taskId, epoch);
    await report(own, [result]);
  }

  function outcomeOf(ending: number): NonNullable<Result['outcome']> {
    if (ending < 0.75) return { case: 'success', value: { output: OUTPUT, encoding: 1 } };
    if (ending < 0.8) return { case: 'returned', value: {} };
    const nonRetryable = ending > 0.97;
    // The network's mistake counts for the breaker, the task's own does not.
    const type = ending < 0.86 ? FailureType.NETWORK_ERROR : FailureType.EVALUATION_ERROR;
    return { case: 'failure', value: { type, message: 'raw', nonRetryable } };
  }

  async function heartbeat(own: RawSession): Promise<void> {
    for (let number = 1n; !own.over; number++) {
      await sleep(HEARTBEAT_MS * (0.8 + random.next() * 0.4));
      if (nowMs() < own.silentUntilMs || own.over) continue;
      try {
        const by = random.pick(masters);
        let answer = await by.heartbeat(
          { sessionId: own.id, number, digest: digestOf(own.held) },
          { timeoutMs: 1_500 },
        );
        if (answer.sendHeld) {
          const held = [...own.held].map(([taskId, epoch]) => ({ taskId, epoch, started: true, ranMs: 1n }));
          const complete = { sessionId: own.id, number, digest: digestOf(own.held), held, heldIsComplete: true };
          answer = await by.heartbeat(complete, { timeoutMs: 1_500 });
        }
        for (const { taskId, epoch } of answer.lost) if (own.held.get(taskId) === epoch) own.held.delete(taskId);
        if (answer.orders?.shutdown || answer.orders?.drain) own.over = true;
      } catch (error) {
        if (refusalOf(error) !== undefined) own.over = true;
      }
    }
  }

  async function take(own: RawSession, working: Set<Promise<void>>): Promise<void> {
    for (let offer = 1n; !own.over && !stopping; offer++) {
      const freeSlots = SLOTS - own.held.size;
      if (freeSlots <= 0 || nowMs() < own.silentUntilMs) {
        await sleep(50);
        continue;
      }
      try {
        const request = { sessionId: own.id, number: ++calls, offer: { number: offer, freeSlots }, waitMs: 1_000 };
        const { leases } = await random.pick(masters).exchange(request, { timeoutMs: CALL_TIMEOUT_MS });
        for (const lease of leases) {
          own.held.set(lease.taskId, lease.epoch);
          const done = perform(own, lease).finally(() => working.delete(done));
          working.add(done);
        }
      } catch (error) {
        if (refusalOf(error) !== undefined) own.over = true;
        else await sleep(200 * random.next());
      }
    }
  }

  async function live(): Promise<void> {
    const capabilities = { executors: ['function'], kinds: ['raw'], slots: SLOTS };
    const request = { name, instanceId: randomUUID(), protocolVersion: 1, version: 'chaos', capabilities };
    const registered = await random.pick(masters).registerWorker(request, { timeoutMs: CALL_TIMEOUT_MS });
    const own: RawSession = { id: registered.sessionId, held: new Map(), over: false, silentUntilMs: 0 };
    session = own;
    const working = new Set<Promise<void>>();
    const beating = heartbeat(own);
    await take(own, working);
    // What a life has to say goes on beside the next one.
    const farewell = (async () => {
      await Promise.all(working);
      own.over = true;
      await beating;
      const leave = { sessionId: own.id, reason: 'chaos' };
      await random
        .pick(masters)
        .leave(leave, { timeoutMs: CALL_TIMEOUT_MS })
        .catch(() => {});
    })().finally(() => farewells.delete(farewell));
    farewells.add(farewell);
  }

  const living = (async () => {
    while (!stopping) {
      try {
        await live();
      } catch {
        await sleep(300); // no master there
      }
    }
  })();
  return {
    get sessionId() {
      return session?.over === false ? session.id : undefined;
    },
    calmDown() {
      calm = true;
    },
    async stop() {
      stopping = true;
      await living;
      await Promise.all(farewells);
    },
  };
}

function digestOf(held: ReadonlyMap<string, number>): { count: number; xor: bigint } {
  let xor = 0n;
  for (const [taskId, epoch] of held) xor ^= BigInt(taskId) ^ (BigInt(epoch) << 40n);
  return { count: held.size, xor: BigInt.asUintN(64, xor) };
}
