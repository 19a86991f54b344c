import { StepFailed } from './errors.ts';
import type { JournalFailure } from './journal.ts';

const TYPES = ['NETWORK_ERROR', 'GPU_ERROR', 'OUT_OF_MEMORY', 'EVALUATION_ERROR', 'UNKNOWN'];
/** What the journal keeps of a text. */
const MOST_CHARACTERS = 16_384;

/** What the code of a step or of a function threw, as it is kept. Errors of the client are known by name. Never throws. */
export function failureOf(thrown: unknown): JournalFailure {
  if (!(thrown instanceof Error))
    return { type: 'EVALUATION_ERROR', message: `thrown: ${cut(show(thrown))}`, exceptionType: typeof thrown };
  if (thrown instanceof StepFailed)
    return { ...thrown.failure, message: cut(thrown.message), exceptionType: 'StepFailed', nonRetryable: true };
  const { name, message, stack } = thrown;
  const typed = name === 'AttemptFailure' && 'type' in thrown && TYPES.includes(thrown.type as string);
  const type =
    name === 'StepTimeout'
      ? 'TASK_TIMEOUT'
      : typed
        ? ((thrown as { type?: string }).type as string)
        : 'EVALUATION_ERROR';
  return {
    type,
    message: cut(message === '' ? name : message),
    exceptionType: name,
    ...(stack !== undefined && { stack: cut(stack) }),
    ...(isFinal(thrown) && { nonRetryable: true }),
  };
}

/** The error itself says that no further try makes sense. */
export function isFinal(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  return thrown.name === 'NonRetryable' || ('nonRetryable' in thrown && thrown.nonRetryable === true);
}

/** The delay that the error asks for. */
export function askedDelayMs(thrown: unknown): number | undefined {
  if (!(thrown instanceof Error) || (thrown.name !== 'RetryAfter' && thrown.name !== 'AttemptFailure'))
    return undefined;
  const delayMs = 'delayMs' in thrown ? thrown.delayMs : undefined;
  return typeof delayMs === 'number' && Number.isFinite(delayMs) ? Math.max(0, delayMs) : undefined;
}

function cut(text: string): string {
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
}

function show(value: unknown): string {
  try {
    return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  } catch {
    return 'a value that cannot be shown';
  }
}
