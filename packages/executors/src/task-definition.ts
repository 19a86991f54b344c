import type { AttemptContext } from '@baton/runtime';

/** The parts of a Standard Schema (standardschema.dev) that are used here. */
export interface Schema {
  readonly '~standard': { readonly validate: (value: unknown) => SchemaAnswer | Promise<SchemaAnswer> };
}

export type SchemaAnswer =
  | { readonly value: unknown; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * A task as the function executor needs it. Known by its shape and not by its class: a user's module may bring its own
 * copy of the client.
 */
export interface RunnableTask {
  readonly __baton: 'task';
  readonly id: string;
  readonly input?: Schema;
  readonly output?: Schema;
  /** Where its code runs. Default: in the worker's main thread. */
  readonly isolation?:
    | 'none'
    | 'thread'
    | 'process'
    | { readonly mode: 'thread' | 'process'; readonly memoryMib?: number };
  /** File URL of the module that exports it, where it is handed over as a value and isolated. */
  readonly module?: string;
  run(input: unknown, context: AttemptContext): unknown;
}

export function isTask(value: unknown): value is RunnableTask {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const candidate = value as Partial<RunnableTask>;
  return candidate.__baton === 'task' && typeof candidate.id === 'string' && typeof candidate.run === 'function';
}

/** A durable function as the executor needs it; known by its shape, like a task. */
export interface RunnableWorkflow {
  readonly __baton: 'workflow';
  readonly id: string;
  readonly version?: string;
  readonly description?: string;
  readonly queue?: string;
  readonly taskClass?: string;
  readonly tags?: readonly string[];
  readonly priority?: number;
  readonly startToCloseTimeoutMs?: number;
  readonly input?: Schema;
  readonly output?: Schema;
  run(context: unknown, input: unknown): unknown;
}

/** What a worker carries out by the code of a module. */
export type Runnable = RunnableTask | RunnableWorkflow;

export function isWorkflow(value: unknown): value is RunnableWorkflow {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const candidate = value as Partial<RunnableWorkflow>;
  return candidate.__baton === 'workflow' && typeof candidate.id === 'string' && typeof candidate.run === 'function';
}

/** Tasks and durable functions. */
export function isRunnable(value: unknown): value is Runnable {
  return isTask(value) || isWorkflow(value);
}

/** Where the function executor finds its tasks; they may change while it runs. */
export interface TaskSource {
  get(kind: string): Runnable | undefined;
  readonly kinds: readonly string[];
  /** File URL of the module that a kind comes from, where it comes from one. */
  moduleOf?(kind: string): string | undefined;
  /** Calls back after kinds came or went. */
  onKindsChange?(listener: () => void): void;
  close?(): void;
}

/** Two different tasks or workflows have the same id. */
export class DuplicateTaskError extends Error {
  override readonly name = 'DuplicateTaskError';
  readonly id: string;

  constructor(id: string) {
    super(`two different tasks or workflows have the id "${id}"`);
    this.id = id;
  }
}

/** By id; the same value twice is one task. Throws `DuplicateTaskError`. */
export function byId(tasks: Iterable<Runnable>): Map<string, Runnable> {
  const map = new Map<string, Runnable>();
  for (const task of tasks) {
    const known = map.get(task.id);
    if (known !== undefined && known !== task) {
      throw new DuplicateTaskError(task.id);
    }
    map.set(task.id, task);
  }
  return map;
}
