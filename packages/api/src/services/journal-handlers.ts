import {
  type FailureType,
  type FunctionWorkflow,
  type JournalAppend,
  type MasterService,
  type NewJournalEntry,
  PayloadEncoding,
  type TaskSpec,
  TaskSpecSchema,
} from '@baton/contract';
import { Refusal, unstorableAt } from '@baton/domain';
import type { CommandEntry, Engine, FunctionDefinition, JournalVerdict, TaskRequest } from '@baton/engine';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { artifactsWanted } from '../messages/artifact-messages.ts';
import { checkIds } from '../messages/check-ids.ts';
import { journalKinds, journalMessage } from '../messages/journal-messages.ts';
import { toTaskRequest } from '../messages/task-messages.ts';
import { failureTypes, taskClasses, wordOf } from '../messages/words.ts';
import { validateMessage } from '../wire/validate.ts';

const MAX_TEXT = 65_536;

/** Journals of durable functions, for workers. Like Exchange not run through the validator: what would reach SQL is looked at here. */
export function journalHandlers(
  engine: Engine,
): Pick<ServiceImpl<typeof MasterService>, 'appendJournal' | 'loadJournal'> {
  return {
    async appendJournal(request) {
      checkIds([request.sessionId], 'session_id');
      checkIds(
        request.appends.map((a) => a.taskId),
        'appends.task_id',
      );
      const verdicts = await Promise.all(
        request.appends.map((append) =>
          engine.journals.append({
            taskId: append.taskId,
            epoch: append.epoch,
            sessionId: request.sessionId,
            seenPosition: append.seenPosition,
            entries: entriesOf(append),
            ...successOf(append, engine.env.settings.maxResultBytes),
          }),
        ),
      );
      const now = Math.max(0, ...verdicts.map((v) => ('nowMs' in v ? v.nowMs : 0)));
      return { answers: verdicts.map(answerMessage), now: timestampFromMs(now || engine.env.now()) };
    },

    async loadJournal(request) {
      checkIds([request.sessionId], 'session_id');
      checkIds([request.taskId], 'task_id');
      const { sessionId, taskId, epoch } = request;
      const page = await engine.journals.load({ sessionId, taskId, epoch }, request.afterNumber);
      return {
        entries: page.rows.map(journalMessage),
        more: page.more,
        wakes: BigInt(page.wakes),
        now: timestampFromMs(page.nowMs),
      };
    },
  };
}

export function functionDefinition(message: FunctionWorkflow): FunctionDefinition {
  return {
    id: message.id,
    release: message.release,
    description: message.description,
    queue: message.queue,
    taskClass: wordOf(taskClasses, message.taskClass) ?? 'cpu_short',
    tags: message.tags,
    priority: message.priority,
    startToCloseMs: Number(message.startToCloseMs),
  };
}

function answerMessage(verdict: JournalVerdict) {
  if ('reason' in verdict) return { reason: verdict.reason, message: verdict.message };
  if ('ended' in verdict) return { ended: true };
  return { entries: verdict.rows.map(journalMessage), wakes: BigInt(verdict.wakes), more: verdict.more };
}

/** Not taken here: what is a blob, too large, or no JSON. Then its task is given its result, and that says why. */
function successOf(
  { success, ranUs }: JournalAppend,
  maxBytes: number,
): { success?: { output: Uint8Array; encoding: 1 | 2; ranUs: number } } {
  const { artifacts = {} } = (success ?? {}) as { artifacts?: object };
  if (!success || success.blob || Object.keys(artifacts).length > 0 || success.output.byteLength > maxBytes) return {};
  const { output } = success;
  const encoding = encodingOf(success.encoding);
  if (encoding === 1 && unstorableAt(output, 'result') !== null) return {};
  return { success: { output, encoding, ranUs: Number(ranUs) } };
}

function entriesOf(append: JournalAppend): CommandEntry[] {
  return append.entries.map((entry) => {
    const kind = wordOf(journalKinds, entry.kind as never);
    if (kind === undefined) throw invalid(`entry ${entry.number} has no kind`);
    const { makes, failure } = entry;
    return {
      number: entry.number,
      kind,
      name: entry.name,
      afterPosition: entry.afterPosition,
      ended: entry.ended,
      attempts: entry.attempts,
      encoding: entry.output === undefined ? null : encodingOf(entry.encoding),
      output: entry.output ?? null,
      failure: failure
        ? {
            type: wordOf(failureTypes, failure.type as FailureType) ?? 'UNKNOWN',
            message: clean(failure.message),
            ...(failure.exceptionType && { exceptionType: clean(failure.exceptionType) }),
            ...(failure.stack && { stack: clean(failure.stack) }),
            ...(failure.nonRetryable && { nonRetryable: true }),
          }
        : null,
      dueInMs: entry.dueInMs === undefined ? null : Number(entry.dueInMs),
      dueAtMs: entry.dueTime ? timestampMs(entry.dueTime) : null,
      endedAtMs: entry.endTime ? soundTime(timestampMs(entry.endTime)) : null,
      ...madeBy(makes),
    };
  });
}

function madeBy(makes: NewJournalEntry['makes']): Pick<CommandEntry, 'task' | 'child'> {
  if (makes.case === 'child') {
    const { workflowName, key, encoding, input } = makes.value;
    return { child: { workflowName, key: key || null, encoding: encodingOf(encoding), input: input ?? null } };
  }
  if (makes.case !== 'task') return {};
  const task = makes.value;
  const retry = {
    ...(task.maxAttempts && { maxAttempts: Math.min(task.maxAttempts, 1_000) }),
    ...(task.initialDelayMs && { initialDelayMs: Number(task.initialDelayMs) }),
    ...(task.factor && { factor: task.factor }),
    ...(task.maxDelayMs && { maxDelayMs: Number(task.maxDelayMs) }),
    ...(task.jitter && { jitter: task.jitter }),
  };
  return {
    task: {
      kind: clean(task.kind),
      queue: clean(task.queue),
      taskClass: wordOf(taskClasses, task.taskClass) ?? 'cpu_short',
      tags: task.tags.map(clean),
      priority: task.priority,
      encoding: encodingOf(task.encoding),
      ...(task.input !== undefined && { input: task.input }),
      ...(task.startToCloseMs && { startToCloseMs: Number(task.startToCloseMs) }),
      ...(Object.keys(task.artifacts).length > 0 && { artifacts: artifactsWanted(task.artifacts) }),
      ...(task.spec && specOf(task.spec)),
      ...(Object.keys(retry).length > 0 && { retry: retry as never }),
    },
  };
}

/** What a submit may say beside kind, queue and the like, by the rules that a submit has. */
function specOf(spec: TaskSpec): Partial<TaskRequest> {
  validateMessage(TaskSpecSchema, spec);
  const { executor, environment, resources, requirements, scheduleToStartMs, progressTimeoutMs } = toTaskRequest(
    spec,
    'spec',
  );
  return {
    ...(executor && { executor }),
    ...(environment && { environment }),
    ...(resources && { resources }),
    ...(requirements && { requirements }),
    ...(scheduleToStartMs !== undefined && { scheduleToStartMs }),
    ...(progressTimeoutMs !== undefined && { progressTimeoutMs }),
  };
}

/** A time that Postgres can keep. */
function soundTime(ms: number): number | null {
  return ms > 0 && ms < 8_640_000_000_000_000 ? ms : null;
}

function encodingOf(encoding: PayloadEncoding): 1 | 2 {
  return encoding === PayloadEncoding.BYTES ? 2 : 1;
}

function clean(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed().replaceAll('\u0000', '\ufffd');
}

function invalid(description: string): Refusal {
  return new Refusal('invalid_argument', 'INVALID_REQUEST', description, {
    violations: [{ field: 'appends', description }],
  });
}
