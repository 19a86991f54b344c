import type { TaskDefinition, WorkflowFunction } from '@baton/client';

/** Types of failures that can be injected by name; see docs/reference/errors.md. */
export type InjectedType =
  | 'EVALUATION_ERROR'
  | 'NETWORK_ERROR'
  | 'OUT_OF_MEMORY'
  | 'GPU_ERROR'
  | 'UNKNOWN'
  /** As if its start-to-close time (of a step: its `timeoutMs`) were over. */
  | 'TASK_TIMEOUT';

export interface FailRule {
  /**
   * What happens: an error as if the code had thrown it (`NonRetryable` and `RetryAfter` mean what they mean there), a failure of a type,
   * or `crash`: the worker is lost in the middle, with all that it runs, and another one takes its place.
   */
  readonly with: Error | InjectedType | 'crash';
  /** Of a durable function: the step of this name. Default: a whole attempt. */
  readonly step?: string;
  /** Only this try (of a task: this attempt), 1 for the first. Default: any. */
  readonly attempt?: number;
  /** How often. Default 1. */
  readonly times?: number;
  /**
   * `before` (default): the code does not run. `after`: it has run, and its effect is there, but what it gave is lost. `kept`, of steps:
   * it is in the journal, and the answer that says so is lost.
   */
  readonly when?: 'before' | 'after' | 'kept';
  /** Only where this says so; it is handed the input of the task or function. */
  readonly input?: (input: unknown) => boolean;
}

/** A rule that was set. */
export interface Failing {
  /** How often it has struck. */
  readonly struck: number;
  /** It strikes no more. */
  stop(): void;
}

/** What can be made to fail: a value, or an id. */
// biome-ignore lint/suspicious/noExplicitAny: of any input and output
export type FailTarget = string | TaskDefinition<any, any, any> | WorkflowFunction<any, any, any>;

/** A point that code comes to. */
export interface FailPoint {
  readonly kind: string;
  readonly step?: string;
  readonly attempt: number;
  readonly when: 'before' | 'after' | 'kept';
  input(): unknown;
}

interface Entry {
  readonly kind: string;
  readonly rule: FailRule;
  left: number;
  struck: number;
}

/** The failures that a test has ordered. */
export class Failings {
  readonly #entries: Entry[] = [];

  add(kind: string, rule: FailRule): Failing {
    if (rule.when === 'kept' && (rule.step === undefined || rule.with !== 'crash'))
      throw new RangeError(
        "when: 'kept' goes with a step and with: 'crash': what is in the journal cannot fail any more",
      );
    const entry: Entry = { kind, rule, left: rule.times ?? 1, struck: 0 };
    this.#entries.push(entry);
    return {
      get struck() {
        return entry.struck;
      },
      stop: () => {
        entry.left = 0;
      },
    };
  }

  /** What is to happen here, once; rules strike in the order in which they were set. */
  strike(point: FailPoint): FailRule['with'] | undefined {
    const entry = this.#entries.find(
      ({ kind, rule, left }) =>
        left > 0 &&
        kind === point.kind &&
        rule.step === point.step &&
        (rule.when ?? 'before') === point.when &&
        (rule.attempt === undefined || rule.attempt === point.attempt) &&
        (rule.input === undefined || rule.input(point.input())),
    );
    if (entry === undefined) return undefined;
    entry.left--;
    entry.struck++;
    return entry.rule.with;
  }
}
