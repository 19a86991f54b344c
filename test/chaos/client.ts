import { setTimeout as sleep } from 'node:timers/promises';
import { type Baton, BatonError, createBaton, type TaskSubmission } from '@baton/client';
import type { Answer } from '@baton/testkit/history';
import type { Random } from './random.ts';
import { nowMs, type Recorder } from './recorder.ts';

/** A task that was acknowledged, for operations that come back to it. */
export interface KnownTask {
  readonly id: string;
  readonly submission: TaskSubmission;
}

/** What clients know of each other's work. Old entries are forgotten. */
export interface Acquaintances {
  readonly tasks: KnownTask[];
  readonly runs: string[];
}

/** One line of work of a client: operations one after the other. */
export interface Line {
  readonly name: string;
  readonly baton: Baton;
  /** The way through another master, mostly. */
  readonly other: Baton;
  readonly random: Random;
  readonly recorder: Recorder;
  readonly known: Acquaintances;
  /** The end is near: nothing is begun any more that takes its time by design. */
  readonly endsSoon: boolean;
  /** Names the next operation: unique in the run. */
  nextOp(): string;
}

const REMEMBERED = 500;

export function remember<T>(list: T[], item: T): void {
  list.push(item);
  if (list.length > REMEMBERED) list.splice(0, REMEMBERED / 2);
}

export function openBaton(url: string): Baton {
  return createBaton({
    url,
    timeoutMs: 5_000,
    retry: { attempts: 3, baseDelayMs: 100, maxDelayMs: 1_000, reconnectMs: 120_000 },
  });
}

/** Refusals that say that nothing was done. All else leaves it open. */
const DEFINITE = new Set([
  'invalid_argument',
  'failed_precondition',
  'not_found',
  'already_exists',
  'permission_denied',
  'unauthenticated',
  'resource_exhausted',
  'unimplemented',
]);

export interface Landing<T> {
  /** For the history. */
  readonly answer: Answer;
  /** With ok. */
  readonly value?: T;
}

/**
 * Calls as a client does that minds its work: what may be repeated is repeated until there is an answer, for so long. If a try
 * was left open, a later refusal does not say that nothing was done.
 */
export async function land<T>(line: Line, call: () => Promise<T>, repeatForMs: number): Promise<Landing<T>> {
  const invokedAtMs = nowMs();
  let open = false;
  for (let tries = 1; ; tries++) {
    try {
      const value = await call();
      return { answer: { by: line.name, invokedAtMs, answeredAtMs: nowMs(), outcome: 'ok' }, value };
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      const { code, reason } = error;
      const definite = DEFINITE.has(code);
      open ||= !definite;
      const worthRepeating = !definite || code === 'resource_exhausted';
      if (worthRepeating && nowMs() - invokedAtMs < repeatForMs) {
        await sleep(Math.random() * Math.min(1_500, 100 * 2 ** tries));
        continue;
      }
      const answeredAtMs = open ? null : nowMs();
      return { answer: { by: line.name, invokedAtMs, answeredAtMs, outcome: open ? 'info' : 'fail', code, reason } };
    }
  }
}

/** How long a client that may repeat itself goes on. */
export const REPEAT_MS = 30_000;

/** Submits one task, repeated if it has a key, and records what became of it. */
export async function submit(line: Line, submission: TaskSubmission, through: Baton = line.baton): Promise<void> {
  // The same key must come with the same body: an operation that repeats an earlier one carries its mark too.
  const mark = submission.labels?.mark ?? line.nextOp();
  const sent = {
    ...submission,
    labels: { mark },
    ...(line.endsSoon && isPoison(submission) && { input: { times: 1 } }),
  };
  const key = sent.idempotencyKey ?? null;
  const { answer, value } = await land(line, () => through.submit(sent), key === null ? 0 : REPEAT_MS);
  line.recorder.operation({
    type: 'submit',
    namespace: 'default',
    kind: sent.kind,
    key,
    body: mark,
    mark,
    ...(value && { taskId: value.id }),
    ...answer,
  });
  if (value !== undefined && !value.deduplicated) remember(line.known.tasks, { id: value.id, submission: sent });
}

/** Lost with worker after worker: each loss takes a lease, and the pauses between them grow. */
function isPoison({ kind, input }: TaskSubmission): boolean {
  return kind === 'crash' && (input as { readonly times: number }).times > 1;
}
