import {
  artifactNameProblem,
  compareIds,
  decideLost,
  decideRetry,
  type Failure,
  MACHINE_MADE,
  MAX_ARTIFACTS,
  POISON_CRASHES,
  type RetryPolicy,
  storableText,
} from '@baton/domain';
import {
  type ArtifactRef,
  alreadyEnded,
  completeTasks,
  completeWithArtifacts,
  type Encoding,
  type EndedWord,
  type HeldAttempt,
  readHeld,
  type Settlement,
  type Success,
  type SuccessWithArtifacts,
  type Suspension,
  settleTasks,
  suspendTasks,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { Blobs } from '../data/blobs.ts';
import { biggerMachine, ranOutAgain } from '../dispatch/bigger-machine.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { bisect, persist } from '../persist.ts';

export type Outcome =
  | {
      type: 'success';
      output: Uint8Array;
      encoding: Encoding /** SHA-256, hex; instead of output. */;
      outputBlob?: string;
      /** Files that the task leaves behind: name and SHA-256 (hex). */
      artifacts?: readonly { name: string; sha256: string }[];
    }
  | { type: 'failure'; failure: Failure }
  | { type: 'cancelled' }
  | { type: 'returned' }
  /** A durable function waits. */
  | { type: 'suspended'; wakes: string; dueAtMs: number | null };

export interface Report {
  taskId: string;
  epoch: number;
  sessionId: string;
  outcome: Outcome;
  /** Time it ran, µs. */
  ranUs: number;
}

const SHA256 = /^[0-9a-f]{64}$/;

type Word = Pick<Report, 'taskId' | 'epoch' | 'sessionId'>;

const SAID = {
  success: 'succeeded',
  failure: 'failed',
  cancelled: 'cancelled',
  returned: 'returned',
  suspended: 'returned',
} as const;

/** null: taken. Otherwise the stable reason of the refusal. */
export type Verdict = null | { reason: 'LEASE_LOST' | 'RESULT_TOO_LARGE'; message: string };

export interface ResultSinks {
  /** A task reached its end; with this success, where it did by what was written here. */
  onEnded(taskId: string, runId: string | null, success?: Success): void;
  /** A task is ready again. */
  onReady(laneId: number): void;
  /** A task waits for its next attempt. */
  onBackoff(delayMs: number): void;
  /** A lease ended without success. `machineMade`: by what the machine of this session did. */
  onSettled(taskId: string, sessionId: string, machineMade: boolean): void;
}

/** Takes what workers report, fenced by (task, epoch, session). */
export interface Results {
  report(report: Report): Promise<Verdict>;
  /** Ends leases for the master's own reasons: sessions that are over, leases nobody heard of, overdue work. Returns how many. */
  settle(settlements: Settlement[]): Promise<number>;
}

export function createResults(
  env: EngineEnvironment,
  lanes: LaneBook,
  blobs: Pick<Blobs, 'useOfSession'>,
  counters: Counters,
  sinks: ResultSinks,
): Results {
  const { pools, settings } = env;

  const successes = createCoalescer<Success, Verdict>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (s) => s.output.byteLength + 100,
    inFlight: 2,
    run: (batch) =>
      bisect(
        batch,
        (part) => complete(part),
        (_, error) => ({ reason: 'RESULT_TOO_LARGE', message: String(error) }),
      ),
  });

  const successesWithFiles = createCoalescer<SuccessWithArtifacts, Verdict>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (s) => s.output.byteLength + 120 * s.artifacts.length + 100,
    inFlight: 1,
    run: (batch) =>
      bisect(
        batch,
        (part) => complete(part, () => completeWithArtifacts(pools.hot, [...part].sort(byTask))),
        (_, error) => ({ reason: 'RESULT_TOO_LARGE', message: String(error) }),
      ),
  });

  async function complete<T extends Success>(
    batch: T[],
    write = () => completeTasks(pools.hot, [...batch].sort(byTask)),
  ): Promise<Verdict[]> {
    const ended = await persist(write, env.random);
    const done = new Map(ended.map((e) => [e.taskId, e]));
    counters.add('baton_tasks_succeeded_total', ended.length);
    const verdicts = await verdictsFor(
      batch,
      (s) => done.has(s.taskId),
      () => 'succeeded',
    );
    // Of several words on one task this does not know which counted.
    const successes = new Map<string, T | undefined>();
    for (const item of batch) successes.set(item.taskId, successes.has(item.taskId) ? undefined : item);
    for (const { taskId, runId } of ended) sinks.onEnded(taskId, runId, successes.get(taskId));
    return verdicts;
  }

  /**
   * What is not held any more was either ended by this very session before (a repeated call), or is lost. `isDone` knows tasks, and
   * a batch may have several words on one: a stale one beside the one that counts. Those are looked up one by one.
   */
  async function verdictsFor<T extends Word>(
    batch: T[],
    isDone: (item: T) => boolean,
    saidBy: (item: T) => NonNullable<EndedWord['said']>,
  ): Promise<Verdict[]> {
    const wordOn = new Map<string, string>();
    const disputed = new Set<string>();
    for (const item of batch) {
      const word = `${item.epoch} ${item.sessionId} ${saidBy(item)}`;
      if ((wordOn.get(item.taskId) ?? word) !== word) disputed.add(item.taskId);
      wordOn.set(item.taskId, word);
    }
    const ask = (items: T[]) => {
      const words = items.map((item) => ({
        taskId: item.taskId,
        epoch: item.epoch,
        sessionId: item.sessionId,
        said: saidBy(item),
      }));
      return items.length === 0 ? new Set<string>() : persist(() => alreadyEnded(pools.hot, words), env.random);
    };
    const before = await ask(batch.filter((item) => !isDone(item) && !disputed.has(item.taskId)));
    const verdicts: Verdict[] = [];
    for (const item of batch) {
      const taken = disputed.has(item.taskId)
        ? (await ask([item])).has(item.taskId)
        : isDone(item) || before.has(item.taskId);
      if (!taken) counters.add('baton_results_refused_total');
      verdicts.push(
        taken
          ? null
          : {
              reason: 'LEASE_LOST',
              message: `the lease of task ${item.taskId}, epoch ${item.epoch}, is not this session's any more`,
            },
      );
    }
    return verdicts;
  }

  const reports = createCoalescer<Report, Verdict>({
    endOfTurn: env.endOfTurn,
    maxItems: 200,
    inFlight: 1,
    run: async (batch) => {
      const held = await persist(() => readHeld(pools.hot, batch), env.random);
      const settlements: Settlement[] = [];
      for (const report of batch) {
        const lease = held.get(report.taskId);
        if (lease && lease.epoch === report.epoch && lease.sessionId === report.sessionId)
          settlements.push(await decide(report, lease));
      }
      const settled = await write(settlements);
      return verdictsFor(
        batch,
        (report) => settled.has(report.taskId),
        (report) => SAID[report.outcome.type],
      );
    },
  });

  const suspensions = createCoalescer<Suspension, Verdict>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    inFlight: 2,
    run: async (batch) => {
      const sorted = [...batch].sort(byTask);
      const suspended = await persist(() => suspendTasks(pools.hot, sorted), env.random);
      const done = new Map(suspended.map((s) => [s.taskId, s]));
      const verdicts = await verdictsFor(
        batch,
        (s) => done.has(s.taskId),
        () => 'returned',
      );
      for (const { taskId, dueAtMs } of batch) {
        const { next, laneId, runId } = done.get(taskId) ?? {};
        if (next === 'ready') sinks.onReady(laneId!);
        else if (next === 'cancelled') sinks.onEnded(taskId, runId!);
        else if (next === 'waiting' && dueAtMs !== null) sinks.onBackoff(Math.max(0, dueAtMs - env.now()));
      }
      return verdicts;
    },
  });

  async function decide(report: Report, lease: HeldAttempt): Promise<Settlement> {
    const base = {
      taskId: report.taskId,
      epoch: report.epoch,
      sessionId: report.sessionId,
      budget: 'none' as const,
      ranUs: report.ranUs,
    };
    if (report.outcome.type === 'cancelled' || (lease.cancelReason !== null && report.outcome.type !== 'success'))
      return { ...base, attempt: 'cancelled', next: 'cancelled', delayMs: null, failure: null };
    if (report.outcome.type === 'returned')
      return { ...base, attempt: 'returned', next: 'ready', delayMs: null, failure: null };
    const failure = clean((report.outcome as { failure: Failure }).failure);
    const policy: RetryPolicy = { ...settings.retry, ...lease.retry, maxAttempts: lease.maxAttempts };
    const decision = decideRetry(policy, lease, failure, env.random());
    counters.add('baton_attempts_failed_total');
    const { budget } = decision;
    if (!decision.retry) {
      const why = budget === 'memory' && decision.because === 'exhausted' ? await ranOutAgain(env, lease) : '';
      return { ...base, attempt: 'failed', next: 'failed', delayMs: null, budget, failure: withReason(failure, why) };
    }
    const backoff = {
      ...base,
      attempt: 'failed',
      next: 'backoff',
      delayMs: decision.delayMs,
      budget,
      failure,
    } as const;
    if (!decision.needsMoreMemory) return backoff;
    const bigger = await biggerMachine(env, lanes, lease, failure);
    return 'laneId' in bigger
      ? { ...backoff, laneId: bigger.laneId }
      : { ...backoff, next: 'failed', delayMs: null, failure: withReason(failure, bigger.none) };
  }

  async function write(settlements: Settlement[]): Promise<Set<string>> {
    if (settlements.length === 0) return new Set();
    const sorted = [...settlements].sort(byTask);
    const settled = await persist(() => settleTasks(pools.hot, sorted), env.random);
    const asked = new Map(settlements.map((s) => [s.taskId, s]));
    for (const s of settled) {
      if (s.next === 'ready') sinks.onReady(s.laneId);
      else if (s.next === 'backoff') sinks.onBackoff(asked.get(s.taskId)!.delayMs!);
      else {
        counters.add(s.next === 'failed' ? 'baton_tasks_failed_total' : 'baton_tasks_cancelled_total');
        sinks.onEnded(s.taskId, s.runId);
      }
      const { attempt: how, failure, sessionId } = asked.get(s.taskId)!;
      const machineMade =
        (how === 'failed' || how === 'lost') && failure !== null && MACHINE_MADE.includes(failure.type);
      sinks.onSettled(s.taskId, sessionId, machineMade);
      if (how === 'returned') counters.add('baton_leases_returned_total');
      if (how === 'lost') counters.add('baton_leases_lost_total');
    }
    return new Set(settled.map((s) => s.taskId));
  }

  function succeed(report: Report, outcome: Outcome & { type: 'success' }): Promise<Verdict> {
    return successes.add({
      ...report,
      output: outcome.output,
      encoding: outcome.encoding,
      outputBlob: outcome.outputBlob ?? null,
    });
  }

  /** Marks what the files are as used, before anything refers to it. */
  async function succeedWithFiles(report: Report, outcome: Outcome & { type: 'success' }): Promise<Verdict> {
    const fail = (failure: Failure) => reports.add({ ...report, outcome: { type: 'failure', failure } });
    const wanted = outcome.artifacts!;
    const files: ArtifactRef[] = [];
    if (wanted.length > MAX_ARTIFACTS)
      return fail(badArtifact(`a task has at most ${MAX_ARTIFACTS} artifacts, and this one ${wanted.length}`));
    for (const { name, sha256 } of wanted) {
      const problem = artifactNameProblem(name) ?? (SHA256.test(sha256) ? null : 'has no SHA-256');
      if (problem) return fail(badArtifact(`the name ${JSON.stringify(name)} ${problem}`));
      const blob = await blobs.useOfSession(report.sessionId, sha256);
      if (!blob)
        return fail(
          badArtifact(`artifact ${JSON.stringify(name)} is blob ${sha256}, which is not kept (any more)`, false),
        );
      files.push({ name, sha256, sizeBytes: blob.sizeBytes });
    }
    const { output, encoding, outputBlob } = outcome;
    return successesWithFiles.add({ ...report, output, encoding, outputBlob: outputBlob ?? null, artifacts: files });
  }

  return {
    report(report) {
      const { outcome } = report;
      if (outcome.type === 'suspended') return suspensions.add({ ...report, ...outcome });
      if (outcome.type !== 'success') return reports.add(report);
      const fail = (failure: Failure) => reports.add({ ...report, outcome: { type: 'failure', failure } });
      if (outcome.output.byteLength > settings.maxResultBytes)
        return fail(tooLarge(outcome.output.byteLength, settings.maxResultBytes));
      const { outputBlob } = outcome;
      const done = () => (outcome.artifacts?.length ? succeedWithFiles(report, outcome) : succeed(report, outcome));
      if (outputBlob === undefined) return done();
      // Marked as used before anything refers to it: the sweep of blobs leaves it alone from here on.
      return blobs
        .useOfSession(report.sessionId, outputBlob)
        .then((blob) => (blob === null ? fail(noOutputBlob(outputBlob)) : done()));
    },
    settle: async (settlements) => (await write(settlements)).size,
  };
}

/** How a lease goes back to ready at no cost. `failure`: why, where it is nobody's wish. */
export function settleReturned({ taskId, epoch, sessionId }: Word, failure: Failure | null = null): Settlement {
  return {
    taskId,
    epoch,
    sessionId,
    attempt: 'returned',
    next: 'ready',
    delayMs: null,
    budget: 'none',
    failure,
    ranUs: 0,
  };
}

/** How a lease ends whose worker is gone. */
export function settleLost(lease: HeldAttempt, why: string): Settlement {
  const base = {
    taskId: lease.taskId,
    epoch: lease.epoch,
    sessionId: lease.sessionId,
    attempt: 'lost' as const,
    budget: 'crash' as const,
    ranUs: 0,
    delayMs: null,
  };
  const failure: Failure = { type: 'WORKER_CRASH', message: why };
  if (lease.cancelReason !== null) return { ...base, next: 'cancelled', failure };
  const decision = decideLost(lease);
  if (!decision.retry)
    return {
      ...base,
      next: 'failed',
      failure: {
        ...failure,
        message: `${POISON_CRASHES} workers were lost while they held this task; the last: ${why}`,
        nonRetryable: true,
      },
    };
  return decision.delayMs === 0
    ? { ...base, next: 'ready', failure }
    : { ...base, next: 'backoff', delayMs: decision.delayMs, failure };
}

/** What the task said, and why it does not go on. */
function withReason(failure: Failure, why: string): Failure {
  if (why === '') return failure;
  return { ...failure, message: failure.message === '' ? why : `${failure.message}; ${why}` };
}

function noOutputBlob(sha256: string): Failure {
  return {
    type: 'EVALUATION_ERROR',
    message: `BLOB_NOT_FOUND: the result names blob ${sha256}, which does not exist in this namespace`,
    nonRetryable: true,
  };
}

/** Bytes that are gone are sent again by another attempt. */
function badArtifact(why: string, nonRetryable = true): Failure {
  return { type: 'EVALUATION_ERROR', message: `ARTIFACT_REFUSED: ${why}`, nonRetryable };
}

function tooLarge(bytes: number, limit: number): Failure {
  return {
    type: 'EVALUATION_ERROR',
    message: `RESULT_TOO_LARGE: the result has ${bytes} bytes; at most ${limit} are kept. A larger one can be returned as a blob`,
    nonRetryable: true,
  };
}

/** A failure must not fail for its own text. */
function clean(failure: Failure): Failure {
  return {
    ...failure,
    message: storableText(failure.message),
    ...(failure.exceptionType !== undefined && { exceptionType: storableText(failure.exceptionType) }),
    ...(failure.stack !== undefined && { stack: storableText(failure.stack) }),
  };
}

/** Two batches that share tasks take their locks in the same order. */
function byTask(a: { taskId: string }, b: { taskId: string }): number {
  return compareIds(a.taskId, b.taskId);
}
