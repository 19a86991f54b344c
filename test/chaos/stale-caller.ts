import { setTimeout as sleep } from 'node:timers/promises';
import { TaskResultSchema } from '@baton/contract';
import type { Answer } from '@baton/testkit/history';
import { create } from '@bufbuild/protobuf';
import type { Cluster } from './cluster.ts';
import type { Random } from './random.ts';
import { type RawMaster, refusalOf } from './raw-call.ts';
import type { RawWorker } from './raw-worker.ts';
import { nowMs, type Recorder } from './recorder.ts';

const EVERY_MS = 250;
const CALL_TIMEOUT_MS = 3_000;
const LATE = new TextEncoder().encode('"late"');

export interface StaleCallerOptions {
  readonly cluster: Cluster;
  readonly masters: readonly RawMaster[];
  /** Whose living sessions it speaks in the name of. */
  readonly workers: readonly RawWorker[];
  readonly recorder: Recorder;
  readonly random: Random;
}

interface OldLease {
  readonly taskId: string;
  readonly epoch: number;
  readonly sessionId: string;
}

/**
 * Says again what is over: results, heartbeats and lines of leases that were lost to their sessions. All of it must be refused,
 * and leave no trace. Returns what stops it.
 */
export function startStaleCaller(options: StaleCallerOptions): () => Promise<void> {
  const { cluster, masters, workers, recorder, random } = options;
  let stopped = false;

  /** A lease that ended with its session, of a task somewhere in the run so far. */
  async function lost(): Promise<OldLease | undefined> {
    const rows = await cluster.sql`
      select a.task_id, a.epoch, a.session_id from baton.attempts a where a.state = 'lost' and a.task_id >= (
        select min(task_id) + ((max(task_id) - min(task_id)) * ${random.next()}::double precision)::bigint from baton.attempts)
      order by a.task_id limit 1`;
    const [row] = rows;
    return row && { taskId: row.task_id, epoch: row.epoch, sessionId: row.session_id };
  }

  async function once(): Promise<void> {
    const old = await lost();
    const [manner, by] = [random.next(), random.pick(masters)];
    if (old === undefined) return;
    const { taskId, epoch } = old;
    const living = workers.find(({ sessionId }) => sessionId !== undefined && sessionId !== old.sessionId)?.sessionId;
    const call = { timeoutMs: CALL_TIMEOUT_MS };
    const invokedAtMs = nowMs();
    const answerOf = async (accepted: Promise<boolean>): Promise<Answer> => {
      const base = { by: 'stale', invokedAtMs };
      try {
        const ok = await accepted;
        return { ...base, answeredAtMs: nowMs(), outcome: ok ? 'ok' : 'fail', ...(!ok && { reason: 'LEASE_LOST' }) };
      } catch (error) {
        const reason = refusalOf(error);
        return reason === undefined
          ? { ...base, answeredAtMs: null, outcome: 'info' }
          : { ...base, answeredAtMs: nowMs(), outcome: 'fail', reason };
      }
    };
    if (manner < 0.2) {
      // A session that is over does not come back by its heartbeat.
      const { sessionId } = old;
      const beat = { sessionId, number: 1n, digest: { count: 1 } };
      const answer = await answerOf(by.heartbeat(beat, call).then(() => true));
      recorder.call({ type: 'renew', sessionId, held: 1, ...answer });
    } else if (manner < 0.35) {
      // Of a lease that was never its own: the last lines of an own one may come late.
      if (living === undefined) return;
      const sessionId = living;
      const lines = [{ taskId, epoch, attempt: 1, sequence: 1_000_000n, stream: 'log', text: 'stale' }];
      const { outcome } = await answerOf(
        by.appendLogs({ sessionId, lines }, call).then(({ refused }) => refused === 0),
      );
      if (outcome === 'fail') recorder.refused();
      if (outcome === 'ok')
        recorder.wrong.push(`a line of task ${taskId}, epoch ${epoch}, was taken of a session that never held it`);
    } else {
      const sessionId = manner < 0.7 && living !== undefined ? living : old.sessionId;
      const succeeded = manner < 0.9;
      const outcome = succeeded
        ? ({ case: 'success', value: { output: LATE, encoding: 1 } } as const)
        : ({ case: 'failure', value: { message: 'late', nonRetryable: true } } as const);
      const results = [create(TaskResultSchema, { taskId, epoch, outcome })];
      const exchanged = by.exchange({ sessionId, number: 1n, results }, call);
      const answer = await answerOf(exchanged.then(({ refused }) => refused.length === 0));
      const reported = succeeded ? 'succeeded' : 'failed';
      recorder.call({ type: 'complete', sessionId, taskId, epoch, reported, ...answer });
    }
  }

  const calling = (async () => {
    while (!stopped) {
      await once().catch(() => {}); // the database is away
      await sleep(EVERY_MS);
    }
  })();
  return async () => {
    stopped = true;
    await calling;
  };
}
