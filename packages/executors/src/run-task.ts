import { FailureType, type Lease, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Outcome } from '@baton/runtime';
import { failureOfError } from './failure-of-error.ts';
import type { Runnable, RunnableTask, Schema, SchemaAnswer } from './task-definition.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();
const nothing = encoder.encode('null');

/** One attempt of a task by its code. Never throws, never rejects; an outcome that is there at once is no promise. */
export function runTask(task: RunnableTask, lease: Lease, context: AttemptContext): Outcome | Promise<Outcome> {
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

export function encode(task: Runnable, value: unknown): Outcome | Promise<Outcome> {
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

export function decodeInput(lease: Lease): unknown {
  if (lease.input.length === 0) {
    return lease.encoding === PayloadEncoding.BYTES ? lease.input : undefined;
  }
  return lease.encoding === PayloadEncoding.BYTES ? lease.input : JSON.parse(decoder.decode(lease.input));
}

export async function check(schema: Schema | undefined, value: unknown): Promise<SchemaAnswer> {
  return schema === undefined ? { value } : schema['~standard'].validate(value);
}

export function issuesText(answer: Extract<SchemaAnswer, { issues: readonly unknown[] }>): string {
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

export function refused(message: string, nonRetryable: boolean): Outcome {
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
