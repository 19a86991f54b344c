import type {
  CommandKind,
  JournalEntry,
  JournalFailure,
  JournalPayload,
  NewEntry,
  TaskCommand,
} from '@baton/client/durable';
import {
  ArtifactRefSchema,
  FailureSchema,
  FailureType,
  type JournalEntry as JournalEntryMessage,
  JournalKind,
  type NewJournalEntry,
  NewJournalEntrySchema,
  PayloadEncoding,
  TaskClass,
} from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { cleanText } from '../attempts/text.ts';

const kinds: Readonly<Record<CommandKind, JournalKind>> = {
  step: JournalKind.STEP,
  sleep: JournalKind.SLEEP,
  signal: JournalKind.SIGNAL,
  task: JournalKind.TASK,
  child: JournalKind.CHILD,
};
const kindNames = new Map(Object.entries(kinds).map(([name, kind]) => [kind, name as CommandKind]));
const maxTextBytes = 65_536;

/** An entry as it is sent. */
export function newEntryMessage(entry: NewEntry): NewJournalEntry {
  const { output, failure, task, child } = entry;
  return create(NewJournalEntrySchema, {
    number: entry.number,
    kind: kinds[entry.kind],
    name: entry.name,
    afterPosition: entry.afterPosition,
    ended: entry.ended,
    attempts: entry.attempts ?? 0,
    ...(output && { output: output.bytes, encoding: encodingOf(output) }),
    ...(failure && { failure: failureMessage(failure) }),
    ...(entry.dueInMs !== undefined && { dueInMs: BigInt(entry.dueInMs) }),
    ...(entry.dueAtMs !== undefined && { dueTime: timestampFromMs(entry.dueAtMs) }),
    ...(entry.endedAtMs !== undefined && { endTime: timestampFromMs(entry.endedAtMs) }),
    ...(task && { makes: { case: 'task', value: taskMessage(task) } as const }),
    ...(child && {
      makes: {
        case: 'child',
        value: {
          workflowName: child.workflow,
          key: child.key ?? '',
          ...(child.input && { input: child.input.bytes, encoding: encodingOf(child.input) }),
        },
      } as const,
    }),
  });
}

/** An entry as it is answered. */
export function journalEntry(message: JournalEntryMessage): JournalEntry {
  return {
    number: message.number,
    kind: kindNames.get(message.kind) ?? 'step',
    name: message.name,
    position: message.position,
    endedAtMs: message.endTime === undefined ? 0 : timestampMs(message.endTime),
    dueAtMs: message.dueTime === undefined ? 0 : timestampMs(message.dueTime),
    refId: message.refId,
    unborn: message.unborn,
    attempts: message.attempts,
    ...payload(message),
    // Of a step that is to be tried again it is that of its last try, and no outcome.
    ...(message.failure !== undefined && message.position > 0 && { failure: failureOf(message.failure) }),
  };
}

function payload({ output, outputBlob, encoding }: JournalEntryMessage): { output?: JournalPayload } {
  const code = encoding === PayloadEncoding.BYTES ? 2 : 1;
  if (outputBlob !== undefined) {
    const blob = { sha256: outputBlob.sha256, sizeBytes: Number(outputBlob.sizeBytes) };
    return { output: { encoding: code, bytes: new Uint8Array(), blob } };
  }
  return output === undefined ? {} : { output: { encoding: code, bytes: output } };
}

function failureOf(failure: NonNullable<JournalEntryMessage['failure']>): JournalFailure {
  return {
    type: FailureType[failure.type] ?? 'UNKNOWN',
    message: failure.message,
    ...(failure.exceptionType !== '' && { exceptionType: failure.exceptionType }),
    ...(failure.stack !== '' && { stack: failure.stack }),
    ...(failure.nonRetryable && { nonRetryable: true }),
  };
}

function failureMessage(failure: JournalFailure) {
  return create(FailureSchema, {
    type: FailureType[failure.type as keyof typeof FailureType] ?? FailureType.UNKNOWN,
    message: cleanText(failure.message, maxTextBytes),
    exceptionType: cleanText(failure.exceptionType ?? '', 1_024),
    stack: cleanText(failure.stack ?? '', maxTextBytes),
    nonRetryable: failure.nonRetryable ?? false,
  });
}

function taskMessage(command: TaskCommand) {
  const { kind, input, queue, taskClass, tags, priority, startToCloseTimeoutMs, retry, artifacts, spec } = command;
  return {
    kind,
    queue: queue ?? '',
    taskClass: taskClass === undefined ? 0 : (TaskClass[taskClass.toUpperCase() as keyof typeof TaskClass] ?? 0),
    tags: [...(tags ?? [])],
    priority: priority ?? 0,
    startToCloseMs: BigInt(Math.round(startToCloseTimeoutMs ?? 0)),
    maxAttempts: retry?.maxAttempts ?? 0,
    initialDelayMs: BigInt(Math.round(retry?.initialDelayMs ?? 0)),
    factor: retry?.factor ?? 0,
    maxDelayMs: BigInt(Math.round(retry?.maxDelayMs ?? 0)),
    jitter: retry?.jitter ?? 0,
    ...(input && { input: input.bytes, encoding: encodingOf(input) }),
    ...(spec && { spec }),
    artifacts: Object.fromEntries(
      Object.entries(artifacts ?? {}).map(([name, { sha256, sizeBytes, taskId }]) => [
        name,
        create(ArtifactRefSchema, { sha256, sizeBytes: BigInt(sizeBytes ?? 0), taskId: taskId ?? '' }),
      ]),
    ),
  };
}

function encodingOf({ encoding }: JournalPayload): PayloadEncoding {
  return encoding === 2 ? PayloadEncoding.BYTES : PayloadEncoding.JSON;
}
