import { type FunctionClock, releaseTag } from '@baton/client/durable';
import { FailureType, type Lease, PayloadEncoding, TaskClass } from '@baton/contract';
import type { AttemptContext, Executor, Outcome } from '@baton/runtime';
import { failureOfError } from './failure-of-error.ts';
import {
  byId,
  isWorkflow,
  type Runnable,
  type RunnableTask,
  type RunnableWorkflow,
  type Schema,
  type SchemaAnswer,
  type TaskSource,
} from './task-definition.ts';
import { runWorkflow } from './workflow-executor.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();
const nothing = encoder.encode('null');

/**
 * Carries tasks out by the functions that they export, in the main thread. The input is decoded from JSON (`undefined`
 * when there is none) or handed over as bytes; a returned `Uint8Array` travels as bytes, what `ctx.blob` gave names its blob, all else is JSON,
 * `undefined` as null. What a task throws is an EVALUATION_ERROR.
 *
 * @param clock of durable functions. Default: this machine's.
 */
export function functionExecutor(tasks: Iterable<Runnable> | TaskSource, clock?: FunctionClock): Executor {
  const source = isSource(tasks) ? tasks : fixed(tasks);
  const workflows = () => source.kinds.map((kind) => source.get(kind)).filter(isWorkflow);
  return {
    type: 'function',
    get kinds() {
      return source.kinds;
    },
    get functions() {
      return workflows().map(describe);
    },
    get tags() {
      return workflows().flatMap(({ id, version }) => (version === undefined ? [] : [releaseTag(id, version)]));
    },
    onKindsChange: (listener) => source.onKindsChange?.(listener),
    start(lease, context) {
      const task = source.get(lease.kind);
      if (task === undefined) {
        return refused(`no task "${lease.kind}" is registered on this worker`, false);
      }
      if (isWorkflow(task)) {
        return runWorkflow(task, lease, context, codec, clock);
      }
      return start(task, lease, context);
    },
    close: () => source.close?.(),
  };
}

function start(task: RunnableTask, lease: Lease, context: AttemptContext): Outcome | Promise<Outcome> {
  let input: unknown;
  try {
    input = decodeInput(lease);
  } catch (error) {
    return refused(
      `the input of task "${task.id}" is not JSON: ${error instanceof Error ? error.message : error}`,
      true,
    );
  }
  // Nothing is awaited that is there already: most tasks have no schema, and many return at once.
  if (task.input !== undefined) {
    return runChecked(task, input, context);
  }
  try {
    const value = task.run(input, context);
    return isThenable(value)
      ? Promise.resolve(value).then((settled) => encode(task, settled), failed)
      : encode(task, value);
  } catch (error) {
    return failed(error);
  }
}

const codec = {
  decode: decodeInput,
  async check(workflow: RunnableWorkflow, input: unknown): Promise<{ value: unknown } | { refusal: Outcome }> {
    const answer = await check(workflow.input, input);
    return answer.issues === undefined
      ? { value: answer.value }
      : { refusal: refused(`the input of workflow "${workflow.id}" does not fit: ${issuesText(answer)}`, true) };
  },
  encode,
};

function describe({
  id,
  version,
  description,
  queue,
  taskClass,
  tags,
  priority,
  startToCloseTimeoutMs,
}: RunnableWorkflow) {
  return {
    id,
    release: version ?? '',
    description: description ?? '',
    queue: queue ?? '',
    taskClass: TaskClass[(taskClass ?? '').toUpperCase() as keyof typeof TaskClass] ?? TaskClass.UNSPECIFIED,
    tags: [...(tags ?? [])],
    priority: priority ?? 0,
    startToCloseMs: BigInt(Math.round(startToCloseTimeoutMs ?? 0)),
  };
}

async function runChecked(task: RunnableTask, input: unknown, context: AttemptContext): Promise<Outcome> {
  try {
    const answer = await check(task.input, input);
    if (answer.issues !== undefined) {
      return refused(`the input of task "${task.id}" does not fit: ${issuesText(answer)}`, true);
    }
    return await encode(task, await task.run(answer.value, context));
  } catch (error) {
    return failed(error);
  }
}

function encode(task: Runnable, value: unknown): Outcome | Promise<Outcome> {
  // Its bytes are elsewhere: there is nothing that a schema could look at.
  if (task.output === undefined || isBlob(value)) {
    return encodeValue(task, value);
  }
  return Promise.resolve(check(task.output, value)).then(
    (answer) =>
      answer.issues === undefined
        ? encodeValue(task, answer.value)
        : refused(`the output of ${task.__baton} "${task.id}" does not fit: ${issuesText(answer)}`, true),
    failed,
  );
}

function encodeValue(task: Runnable, value: unknown): Outcome {
  if (value === undefined || value === null) {
    return { kind: 'success', output: nothing, encoding: PayloadEncoding.JSON };
  }
  if (isBlob(value)) {
    const { sha256, sizeBytes } = value;
    const encoding = value.encoding === 'json' ? PayloadEncoding.JSON : PayloadEncoding.BYTES;
    return { kind: 'success', output: new Uint8Array(), encoding, blob: { sha256, sizeBytes } };
  }
  if (value instanceof Uint8Array) {
    return { kind: 'success', output: value, encoding: PayloadEncoding.BYTES };
  }
  let text: string | undefined;
  let why = 'it is a function or a symbol';
  try {
    text = JSON.stringify(value);
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  if (text === undefined) {
    return refused(`the output of ${task.__baton} "${task.id}" cannot be written as JSON: ${why}`, true);
  }
  return { kind: 'success', output: encoder.encode(text), encoding: PayloadEncoding.JSON };
}

function decodeInput(lease: Lease): unknown {
  if (lease.input.length === 0) {
    return lease.encoding === PayloadEncoding.BYTES ? lease.input : undefined;
  }
  return lease.encoding === PayloadEncoding.BYTES ? lease.input : JSON.parse(decoder.decode(lease.input));
}

async function check(schema: Schema | undefined, value: unknown): Promise<SchemaAnswer> {
  return schema === undefined ? { value } : schema['~standard'].validate(value);
}

function issuesText(answer: Extract<SchemaAnswer, { issues: readonly unknown[] }>): string {
  return answer.issues
    .map(({ message, path = [] }) => {
      const at = path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
      return at === '' ? message : `${at}: ${message}`;
    })
    .join('; ');
}

function failed(error: unknown): Outcome {
  return { kind: 'failure', failure: failureOfError(error) };
}

function refused(message: string, nonRetryable: boolean): Outcome {
  return { kind: 'failure', failure: { type: FailureType.EVALUATION_ERROR, message, nonRetryable } };
}

/** What `ctx.blob` gave; known by its shape. */
function isBlob(value: unknown): value is { sha256: string; sizeBytes: number; encoding: unknown } {
  return (
    typeof value === 'object' &&
    value !== null &&
    '__baton' in value &&
    value.__baton === 'blob' &&
    'sha256' in value &&
    typeof value.sha256 === 'string' &&
    /^[0-9a-f]{64}$/.test(value.sha256) &&
    'sizeBytes' in value &&
    Number.isSafeInteger(value.sizeBytes)
  );
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

function isSource(tasks: Iterable<Runnable> | TaskSource): tasks is TaskSource {
  return !(Symbol.iterator in tasks);
}

function fixed(tasks: Iterable<Runnable>): TaskSource {
  const map = byId(tasks);
  return { get: (kind) => map.get(kind), kinds: [...map.keys()] };
}
