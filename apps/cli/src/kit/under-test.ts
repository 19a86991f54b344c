import { AttemptFailure, type StepContext, type WorkflowContext, type WorkflowFunction } from '@baton/client';
import type { NewEntry } from '@baton/client/durable';
import { FailureType, type Lease, PayloadEncoding } from '@baton/contract';
import { failureOfError } from '@baton/executors';
import type { AttemptContext, Executor, FailureReport, Outcome } from '@baton/runtime';
import type { Activity } from './activity.ts';
import type { Failings, FailRule } from './failing.ts';

/** How often the code of a step was begun and came to its end. */
export interface StepCount {
  readonly runId: string;
  readonly step: string;
  readonly stepKey: string;
  /** Times its code was begun: more than one, where a worker was lost in the middle or the step was tried again. */
  readonly tries: number;
  /** Times it came to its end without throwing: its effects, made twice where this is 2. */
  readonly completions: number;
}

/** What the instruments of a worker tell, and ask. */
export interface Instruments {
  readonly activity: Activity;
  readonly failings: Failings;
  /** Loses the worker. */
  crash(): void;
  /** An attempt of this kind begins. */
  attempted(kind: string): void;
  stepBegins(runId: string, step: string, stepKey: string): void;
  stepCompletes(stepKey: string): void;
}

/** The function, whose steps are counted and can be made to fail. */
export function stepsUnderTest(workflow: WorkflowFunction, instruments: Instruments): WorkflowFunction {
  const { activity, failings } = instruments;
  const stepOf =
    (ctx: WorkflowContext, input: unknown): WorkflowContext['step'] =>
    (name, run, options) => {
      // What is no function is for the context itself to refuse.
      if (typeof run !== 'function') return ctx.step(name, run, options);
      return ctx.step(
        name,
        (step) =>
          activity.during(`step \`${name}\` of ${workflow.id}`, async () => {
            const at = { kind: workflow.id, step: name, attempt: step.attempt, input: () => input };
            await strikeStep(failings.strike({ ...at, when: 'before' }), step);
            instruments.stepBegins(ctx.runId, name, step.stepKey);
            const value = await run(step);
            instruments.stepCompletes(step.stepKey);
            await strikeStep(failings.strike({ ...at, when: 'after' }), step);
            return value;
          }),
        options,
      );
    };

  async function strikeStep(what: FailRule['with'] | undefined, step: StepContext): Promise<void> {
    if (what === undefined) return;
    if (what === 'crash') {
      instruments.crash();
      await lost(step.signal);
    }
    if (typeof what !== 'string') throw what;
    if (what === 'TASK_TIMEOUT') throw Object.assign(new Error('the step took too long (injected)'), TIMED_OUT);
    throw new AttemptFailure(what as AttemptFailure['type'], `${what} (injected)`);
  }

  return {
    ...workflow,
    run: (ctx, input) => workflow.run({ ...ctx, step: stepOf(ctx, input) }, input),
  };
}

/** By this name the journal knows a step whose time was over. */
const TIMED_OUT = { name: 'StepTimeout' };

/** What carries tasks out, whose attempts are counted and can be made to fail. */
export function executorUnderTest(
  executor: Executor,
  isDriver: (kind: string) => boolean,
  instruments: Instruments,
): Executor {
  const { activity, failings } = instruments;

  async function start(lease: Lease, context: AttemptContext): Promise<Outcome> {
    const drives = executor.type === 'function' && isDriver(lease.kind);
    const end = drives ? activity.beginDriver() : activity.begin(`task \`${lease.kind}\``);
    try {
      return await attempt(lease, context, drives);
    } finally {
      end();
    }
  }

  async function attempt(lease: Lease, context: AttemptContext, drives: boolean): Promise<Outcome> {
    const at = { kind: lease.kind, attempt: lease.attempt, input: () => inputOf(lease) };
    const before = failings.strike({ ...at, when: 'before' });
    if (before !== undefined) return struck(before, context);
    instruments.attempted(lease.kind);
    const outcome = await executor.start(lease, drives ? withJournal(lease, context) : context);
    const after = failings.strike({ ...at, when: 'after' });
    if (after !== undefined) return struck(after, context);
    if (outcome.kind !== 'success' || outcome.rest === undefined) return outcome;
    const { entries, seenPosition } = outcome.rest;
    if (!isKept(lease, entries)) return outcome;
    // The last step would have gone with the run's end, of which there is no crash behind.
    await context.journal.append(entries, seenPosition);
    return struck('crash', context);
  }

  async function struck(what: FailRule['with'], context: AttemptContext): Promise<Outcome> {
    if (what === 'crash') {
      instruments.crash();
      await lost(context.signal).catch(() => {});
      return { kind: 'cancelled' };
    }
    return { kind: 'failure', failure: typeof what === 'string' ? failureOfType(what) : failureOfError(what) };
  }

  /** Whether one of these is a step after whose entry the worker is to be lost. */
  function isKept(lease: Lease, entries: readonly NewEntry[]): boolean {
    return entries.some(({ kind, name, ended, attempts = 1 }) => {
      if (kind !== 'step' || !ended) return false;
      const at = { kind: lease.kind, step: name, attempt: attempts, input: () => inputOf(lease) };
      return failings.strike({ ...at, when: 'kept' }) !== undefined;
    });
  }

  /** The context of a function's go; calls of its journal are something that goes on. */
  function withJournal(lease: Lease, context: AttemptContext): AttemptContext {
    const { journal } = context;
    const name = `the journal of ${lease.kind}`;
    return standIn(context, {
      journal: standIn(journal, {
        load: () => activity.during(name, () => journal.load()),
        append: (entries, seenPosition) =>
          activity.during(name, async () => {
            const answer = await journal.append(entries, seenPosition);
            if (isKept(lease, entries)) {
              instruments.crash();
              await lost(context.signal);
            }
            return answer;
          }),
      }),
    });
  }

  return standIn(executor, { start });
}

/** The same but for some members. What stays sees the original as `this`: it may be of a class with private fields. */
function standIn<T extends object>(original: T, members: Partial<T>): T {
  return new Proxy(original, {
    get(target, name) {
      if (Object.hasOwn(members, name)) return members[name as keyof T];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Rejects when the worker's end has reached the code; until then a lost worker's code does nothing more. */
function lost(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const end = () => reject(signal.reason);
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}

function failureOfType(type: Exclude<FailRule['with'], Error | 'crash'>): FailureReport {
  return { type: FailureType[type], message: `${type} (injected)` };
}

const decoder = new TextDecoder();

/** As the rule's own condition sees it: bytes as they are, all else from JSON. */
function inputOf({ input, encoding }: Lease): unknown {
  if (encoding === PayloadEncoding.BYTES) return input;
  return input.length === 0 ? undefined : JSON.parse(decoder.decode(input));
}
