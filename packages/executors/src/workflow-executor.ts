import {
  type FunctionClock,
  FunctionRun,
  failureOf,
  NonDeterminism,
  StepFailed,
  workflowContext,
} from '@baton/client/durable';
import { FailureType, type Lease } from '@baton/contract';
import { idTimeMs } from '@baton/domain';
import type { AttemptContext, Outcome } from '@baton/runtime';
import type { RunnableWorkflow } from './task-definition.ts';

/** The worker's own time, and turns of its event loop. */
const workerClock: FunctionClock = {
  now: () => performance.now(),
  after(delayMs, then) {
    const timer = setTimeout(then, Math.min(delayMs, 0x7fffffff));
    return () => clearTimeout(timer);
  },
  turn: () => new Promise((resolve) => setImmediate(resolve)),
};

/** An output up to this goes to the journal's master with what the journal still lacks. */
const RIDES_BYTES = 1024 * 1024;

/** What the executor of functions does for tasks alike. */
export interface Codec {
  /** Throws what is no JSON. */
  decode(lease: Lease): unknown;
  /** The input as its schema gives it, or why it does not fit. */
  check(workflow: RunnableWorkflow, input: unknown): Promise<{ value: unknown } | { refusal: Outcome }>;
  encode(workflow: RunnableWorkflow, value: unknown): Outcome | Promise<Outcome>;
}

/** One go at a durable function: replays its journal, goes on, ends or waits. Never rejects. */
export async function runWorkflow(
  workflow: RunnableWorkflow,
  lease: Lease,
  context: AttemptContext,
  codec: Codec,
  clock: FunctionClock = workerClock,
): Promise<Outcome> {
  if (lease.runId === '')
    return failed(
      `"${workflow.id}" is a workflow and no task: start a run of it, baton run start ${workflow.id}`,
      true,
    );
  try {
    const checked = await codec.check(workflow, codec.decode(lease));
    if ('refusal' in checked) return checked.refusal;
    const journal = context.journal;
    const loaded = await journal.load();
    const run = new FunctionRun({
      runId: lease.runId,
      startMs: idTimeMs(lease.runId),
      entries: loaded.entries,
      wakes: loaded.wakes,
      nowMs: loaded.nowMs,
      journal,
      clock,
      signal: context.signal,
    });
    const end = await run.run(() => workflow.run(workflowContext(run, lease.runId, context.log), checked.value));
    switch (end.kind) {
      case 'completed': {
        const outcome = await codec.encode(workflow, end.value);
        const rest = { entries: end.rest, seenPosition: end.seenPosition };
        const ridesAlong =
          outcome.kind === 'success' && outcome.blob === undefined && outcome.output.length <= RIDES_BYTES;
        if (ridesAlong) return { ...outcome, rest };
        if (rest.entries.length > 0) await journal.append(rest.entries, rest.seenPosition);
        return outcome;
      }
      case 'suspended':
        return end;
      case 'failed':
        return failureOutcome(end.error);
      default:
        return { kind: 'cancelled' };
    }
  } catch (error) {
    return context.signal.aborted ? { kind: 'cancelled' } : failureOutcome(error);
  }
}

/** What a function throws fails its run: its steps have had their retries. Only what is no fault of its code is tried again. */
function failureOutcome(error: unknown): Outcome {
  const isOurs = error instanceof Error && error.name === 'JournalError';
  const failure = failureOf(error);
  const type =
    error instanceof StepFailed || !isOurs
      ? (FailureType[failure.type as keyof typeof FailureType] ?? FailureType.EVALUATION_ERROR)
      : FailureType.NETWORK_ERROR;
  return {
    kind: 'failure',
    failure: {
      type,
      message: failure.message,
      exceptionType: error instanceof NonDeterminism ? 'NonDeterminism' : failure.exceptionType,
      stack: error instanceof NonDeterminism ? undefined : failure.stack,
      nonRetryable: !isOurs || (error as { reason?: string }).reason === 'JOURNAL_FULL',
    },
  };
}

function failed(message: string, nonRetryable: boolean): Outcome {
  return { kind: 'failure', failure: { type: FailureType.EVALUATION_ERROR, message, nonRetryable } };
}
