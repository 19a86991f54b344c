import type { JournalAnswer, JournalEntry, NewEntry } from '@baton/client/durable';
import type {
  JournalAnswer as AnswerMessage,
  AppendJournalResponse,
  NewJournalEntry,
  TaskResult,
  TaskSuccess,
} from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import type { Attempt } from '../attempts/attempt.ts';
import type { JournalRest, LoadedJournal } from '../attempts/attempt-journal.ts';
import { JournalError } from '../errors.ts';
import { fullJitter } from './backoff.ts';
import type { MasterConnection } from './connection.ts';
import { journalEntry, newEntryMessage } from './journal-wire.ts';
import { describe, isVerdict, reasonOf } from './refusal.ts';

const callTimeoutMs = 10_000;
const retry = { baseMs: 50, capMs: 2_000 };
/** A request stays below the 4 MiB that a master reads; one output has at most 2 MiB. */
const batchBytes = 1_900_000;
/** Calls under way at once; while all are, appends gather for the next. */
const maxCalls = 2;

export interface JournalChannelOptions {
  readonly namespace: string;
  readonly sessionId: string;
  readonly connection: Pick<MasterConnection, 'master'>;
  readonly log: Logger;
  /** The master says that the lease is another's by now. */
  readonly onLost: (attempt: Attempt, reason: string) => void;
}

interface Answered extends JournalAnswer {
  readonly more: boolean;
  readonly ended: boolean;
}

interface Item {
  readonly attempt: Attempt;
  readonly entries: readonly NewEntry[];
  readonly messages: NewJournalEntry[];
  readonly seenPosition: number;
  readonly bytes: number;
  /** The function has ended, and this is its end. */
  readonly result: TaskResult | undefined;
  failures: number;
  settle(answer: AnswerMessage, nowMs: number): void;
  fail(error: Error): void;
}

/**
 * Writes and reads the journals of all functions of a session: what they add at one moment goes in one call. Calls are repeated until the
 * master has answered or the attempt is over: what was added is added once, however often it was sent.
 */
export class JournalChannel {
  readonly #options: JournalChannelOptions;
  #waiting: Item[] = [];
  #calls = 0;
  #isFlushDue = false;
  #keepsTimes = true;

  constructor(options: JournalChannelOptions) {
    this.#options = options;
  }

  /** Masters of the version before give entries times of their own. */
  get keepsTimes(): boolean {
    return this.#keepsTimes;
  }

  async complete(attempt: Attempt, { entries, seenPosition }: JournalRest, result: TaskResult): Promise<boolean> {
    if (successOf(result) === undefined && entries.length === 0) return false;
    return (await this.#send(attempt, entries, seenPosition, result)).ended;
  }

  async append(attempt: Attempt, entries: readonly NewEntry[], seenPosition: number): Promise<JournalAnswer> {
    const all: JournalEntry[] = [];
    let seen = seenPosition;
    let wakes = 0n;
    let nowMs = 0;
    let left = portions(entries);
    for (;;) {
      const answer = await this.#send(attempt, left[0] ?? [], seen);
      left = left.slice(1);
      wakes = answer.wakes;
      nowMs = answer.nowMs;
      for (const entry of answer.entries) {
        all.push(entry);
        seen = Math.max(seen, entry.position);
      }
      if (left.length === 0 && !answer.more) return { entries: all, wakes, nowMs };
    }
  }

  async load(attempt: Attempt): Promise<LoadedJournal> {
    // Whoever has the first lease of a run's task finds its journal empty.
    if (attempt.epoch === 1) return { entries: [], wakes: 0n, nowMs: 0 };
    const { namespace, sessionId, connection } = this.#options;
    const { taskId, epoch } = attempt;
    const entries: JournalEntry[] = [];
    let wakes = 0n;
    let nowMs = 0;
    for (let failures = 0; ; ) {
      stopIfOver(attempt);
      const afterNumber = entries.at(-1)?.number ?? 0;
      try {
        const page = await connection.master.loadJournal(
          { namespace, sessionId, taskId, epoch, afterNumber },
          { timeoutMs: callTimeoutMs },
        );
        if (afterNumber === 0) {
          wakes = page.wakes;
          nowMs = page.now === undefined ? 0 : timestampMs(page.now);
        }
        for (const each of page.entries) entries.push(journalEntry(each));
        failures = 0;
        if (!page.more) return { entries, wakes, nowMs };
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        const reason = reasonOf(error);
        if (reason === 'LEASE_LOST') throw this.#lost(attempt, error.rawMessage);
        if (isVerdict(error)) throw new JournalError(reason ?? 'INVALID_REQUEST', error.rawMessage);
        failures += 1;
        this.#options.log.warn('journal not loaded', { ...attempt.fields, failures, reason: describe(error) });
        await pauseFor(failures);
      }
    }
  }

  async #send(
    attempt: Attempt,
    entries: readonly NewEntry[],
    seenPosition: number,
    result?: TaskResult,
  ): Promise<Answered> {
    if (result === undefined) stopIfOver(attempt);
    const { promise, resolve, reject } = Promise.withResolvers<Answered>();
    const item: Item = {
      attempt,
      entries,
      messages: entries.map(newEntryMessage),
      seenPosition,
      bytes: entries.reduce((bytes, entry) => bytes + sizeOf(entry), 100 + (endOf(result).success?.output.length ?? 0)),
      result,
      failures: 0,
      settle: (answer, nowMs) => {
        if (answer.reason === 'LEASE_LOST') reject(this.#lost(attempt, answer.message));
        else if (answer.reason !== '') reject(new JournalError(answer.reason, answer.message));
        else
          resolve({
            entries: answer.entries.map((m) => this.#known(m, item)),
            wakes: answer.wakes,
            nowMs,
            more: answer.more,
            ended: answer.ended,
          });
      },
      fail: reject,
    };
    this.#enqueue([item]);
    const answer = await promise;
    // A sign of life, also for a function whose steps are silent.
    if (result === undefined) attempt.sign();
    return answer;
  }

  #enqueue(items: readonly Item[]): void {
    this.#waiting.push(...items);
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    setImmediate(() => {
      this.#isFlushDue = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (this.#calls < maxCalls && this.#waiting.length > 0) {
      let count = 0;
      let bytes = 0;
      for (const item of this.#waiting) {
        bytes += item.bytes;
        if (count > 0 && bytes > batchBytes) break;
        count += 1;
      }
      this.#calls += 1;
      void this.#call(this.#waiting.splice(0, count)).finally(() => {
        this.#calls -= 1;
        this.#flush();
      });
    }
  }

  /** Never rejects: what goes wrong goes to those who wait. */
  async #call(items: readonly Item[]): Promise<void> {
    const { namespace, sessionId, connection, log } = this.#options;
    const appends = items.map(({ attempt, seenPosition, messages, result }) => ({
      taskId: attempt.taskId,
      epoch: attempt.epoch,
      seenPosition,
      entries: messages,
      ...endOf(result),
    }));
    let response: AppendJournalResponse;
    try {
      response = await connection.master.appendJournal({ namespace, sessionId, appends }, { timeoutMs: callTimeoutMs });
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      if (isVerdict(error)) {
        // Refused as a whole: find the bad one, let the others through.
        if (items.length > 1) for (const item of items) await this.#call([item]);
        else items[0]!.fail(new JournalError(reasonOf(error) ?? 'INVALID_REQUEST', error.rawMessage));
        return;
      }
      const failures = ++items[0]!.failures;
      log.warn('journal not written', { functions: items.length, failures, reason: describe(error) });
      setTimeout(() => this.#again(items), fullJitter(failures, retry));
      return;
    }
    const nowMs = response.now === undefined ? 0 : timestampMs(response.now);
    for (const [i, item] of items.entries()) {
      const answer = response.answers[i];
      if (answer === undefined) item.fail(new JournalError('ANSWER_MISSING', 'the master gave no answer'));
      else item.settle(answer, nowMs);
    }
  }

  #again(items: readonly Item[]): void {
    const wanted: Item[] = [];
    for (const item of items) {
      const { attempt, result } = item;
      // What a function has done stands, even when somebody asked to stop it meanwhile: the master decides.
      const isWanted =
        result === undefined ? attempt.stop === undefined && attempt.phase === 'running' : attempt.phase === 'finished';
      if (isWanted) wanted.push(item);
      else item.fail(item.attempt.stop ?? new JournalError('LEASE_LOST', 'the attempt is over'));
    }
    if (wanted.length > 0) this.#enqueue(wanted);
  }

  /** Of a step that was sent, the answer has no output: it is known here. */
  #known(message: AnswerMessage['entries'][number], item: Item): JournalEntry {
    const entry = journalEntry(message);
    const sent = item.entries.find((each) => each.number === entry.number);
    if (sent === undefined || entry.kind !== 'step' || !sent.ended) return entry;
    if (sent.endedAtMs !== undefined && sent.endedAtMs !== entry.endedAtMs) this.#keepsTimes = false;
    return {
      ...entry,
      attempts: sent.attempts ?? entry.attempts,
      ...(sent.output && { output: sent.output }),
      ...(sent.failure && { failure: sent.failure }),
    };
  }

  #lost(attempt: Attempt, message: string): Error {
    this.#options.onLost(attempt, message);
    return attempt.stop ?? new JournalError('LEASE_LOST', message);
  }
}

/** Entries in as many calls as their outputs need. */
function portions(entries: readonly NewEntry[]): NewEntry[][] {
  const result: NewEntry[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const entry of entries) {
    const size = sizeOf(entry);
    if (bytes + size > batchBytes) {
      result.push([]);
      bytes = 0;
    }
    result.at(-1)!.push(entry);
    bytes += size;
  }
  return result;
}

function sizeOf({ name, output, failure, task, child }: NewEntry): number {
  const input = (task ?? child)?.input;
  const failed = failure === undefined ? 0 : 3 * (failure.message.length + (failure.stack?.length ?? 0));
  return 200 + 3 * name.length + (output?.bytes.length ?? 0) + (input?.bytes.length ?? 0) + failed;
}

/** A success that can end a function together with its journal: its output is here, and it has no files. */
function successOf(result: TaskResult): TaskSuccess | undefined {
  const { outcome } = result;
  if (outcome.case !== 'success' || outcome.value.blob !== undefined) return undefined;
  const { artifacts = {} } = outcome.value as { artifacts?: object };
  return Object.keys(artifacts).length === 0 ? outcome.value : undefined;
}

function endOf(result: TaskResult | undefined): { success?: TaskSuccess; ranUs?: bigint } {
  const success = result && successOf(result);
  return success === undefined ? {} : { success, ranUs: result!.ranUs };
}

function stopIfOver(attempt: Attempt): void {
  if (attempt.stop !== undefined) throw attempt.stop;
  if (attempt.phase !== 'running') throw new JournalError('LEASE_LOST', 'the attempt is over');
}

function pauseFor(failures: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, fullJitter(failures, retry)));
}
