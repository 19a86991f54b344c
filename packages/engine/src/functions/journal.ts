import { compareIds, type Failure, Refusal, storableText } from '@baton/domain';
import {
  type AddedEntry,
  type AppendedJournal,
  alreadyEnded,
  appendJournal,
  type CompletedFunction,
  completeFunctions,
  type Encoding,
  failEntries,
  heldRun,
  type JournalRow,
  knownRefs,
  type NewJournalEntry,
  readJournal,
  readResolved,
  readWaits,
  resolveJournal,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { bisect, persist } from '../persist.ts';
import type { TaskRequest } from '../tasks/submit.ts';

/** A run that a function starts. */
export interface ChildRequest {
  workflowName: string;
  input: Uint8Array | null;
  encoding: 1 | 2;
  key: string | null;
}

/** What a function adds to its journal. */
export interface CommandEntry extends Omit<NewJournalEntry, 'refId'> {
  task?: TaskRequest;
  child?: ChildRequest;
}

export interface AppendRequest {
  taskId: string;
  epoch: number;
  sessionId: string;
  /** What was resolved behind it is told. */
  seenPosition: number;
  entries: CommandEntry[];
  /** The function has returned this: the end of its task and its run, together with the entries. */
  success?: { output: Uint8Array; encoding: Encoding; ranUs: number };
}

export interface JournalAnswer {
  /** Resolved behind the seen position, in that order; then those of the sent that wait. Steps that were sent come without their outputs. */
  rows: JournalRow[];
  /** There are more, behind the last of these. */
  more: boolean;
  wakes: string;
  nowMs: number;
}

/** The lease is over: the success was taken, now or by an earlier call. */
export interface JournalEnded {
  ended: true;
}

export type JournalVerdict =
  | JournalAnswer
  | JournalEnded
  | { reason: 'LEASE_LOST' | 'JOURNAL_FULL' | 'INVALID_REQUEST'; message: string };

export interface JournalPage {
  rows: (JournalRow & { unborn: boolean })[];
  more: boolean;
  wakes: string;
  nowMs: number;
}

/** The journals of durable functions, as workers write and read them. Fenced by (task, epoch, session). */
export interface Journals {
  append(request: AppendRequest): Promise<JournalVerdict>;
  /** @throws Refusal LEASE_LOST */
  load(lease: { taskId: string; epoch: number; sessionId: string }, afterNumber: number): Promise<JournalPage>;
}

/** Hears of runs that have ended with their functions. */
export type FunctionEndSink = (ended: readonly CompletedFunction[]) => void;

/** Makes what functions ask for. Repeatable: what has an id is made once. */
export interface JournalMaker {
  /** By id, why some of them never will be. */
  tasks(
    made: readonly { id: string; runId: string; namespaceId: number; name: string; request: TaskRequest }[],
  ): Promise<ReadonlyMap<string, Failure>>;
  /** Null: made, or there. Otherwise why it never will be. */
  child(made: {
    id: string;
    runId: string;
    namespaceId: number;
    name: string;
    request: ChildRequest;
  }): Promise<Failure | null>;
}

/** Entries of one run. */
const MAX_ENTRIES = 100_000;
/** Of one answer: a message stays below 8 MiB, also beside others. */
const ANSWER_BYTES = 1024 * 1024;
const PAGE_BYTES = 2 * 1024 * 1024;
const PAGE_ENTRIES = 5_000;
/** Two writers of one journal at once: the second saw the journal as it was before the first. */
const MOST_TRIES = 5;

export function createJournals(
  env: EngineEnvironment,
  counters: Counters,
  maker: JournalMaker,
  onEnded: FunctionEndSink,
): Journals {
  const { pools, settings } = env;

  const appends = createCoalescer<AppendRequest, JournalVerdict>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (request) => request.entries.reduce((bytes, e) => bytes + (e.output?.byteLength ?? 0) + 200, 100),
    inFlight: 2,
    run: (batch) => bisect(batch, appendAll, (_, error) => ({ reason: 'INVALID_REQUEST', message: String(error) })),
  });

  const successes = createCoalescer<AppendRequest, JournalVerdict>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (request) =>
      request.entries.reduce(
        (bytes, e) => bytes + (e.output?.byteLength ?? 0) + 200,
        request.success!.output.byteLength,
      ),
    inFlight: 2,
    run: (batch) => bisect(batch, endAll, (_, error) => ({ reason: 'INVALID_REQUEST', message: String(error) })),
  });

  const endAll = (batch: AppendRequest[]) => onePerTask(batch, endOnce);

  /** What cannot end this way is appended, and its caller told that it has not ended. */
  async function endOnce(batch: AppendRequest[]): Promise<Map<AppendRequest, JournalVerdict>> {
    const verdicts = new Map<AppendRequest, JournalVerdict>();
    const mayEnd = batch.filter(endsWhole);
    const ended =
      mayEnd.length === 0
        ? []
        : await whileContended(() =>
            completeFunctions(
              pools.hot,
              mayEnd.map(({ taskId, epoch, sessionId, entries, success }) => ({
                ...success!,
                taskId,
                epoch,
                sessionId,
                entries: entries.map((e) => ({ ...e, refId: null })),
              })),
            ),
          );
    const byTask = new Map(batch.map((request) => [request.taskId, request]));
    for (const { taskId } of ended) {
      const request = byTask.get(taskId)!;
      counters.add('baton_journal_entries_total', request.entries.length);
      verdicts.set(request, { ended: true });
    }
    if (ended.length > 0) onEnded(ended);
    let open = batch.filter((request) => !verdicts.has(request));
    if (open.length === 0) return verdicts;
    const words = open.map(({ taskId, epoch, sessionId }) => ({
      taskId,
      epoch,
      sessionId,
      said: 'succeeded' as const,
    }));
    const before = await persist(() => alreadyEnded(pools.hot, words), env.random);
    for (const request of open) if (before.has(request.taskId)) verdicts.set(request, { ended: true });
    open = open.filter((request) => !verdicts.has(request));
    if (open.length > 0) for (const [request, verdict] of await appendOnce(open)) verdicts.set(request, verdict);
    return verdicts;
  }

  const appendAll = (batch: AppendRequest[]) => onePerTask(batch, appendOnce);

  /** A task may be there twice, when a call is repeated before the first one was carried out: then one after the other. */
  async function onePerTask(
    batch: AppendRequest[],
    run: (part: AppendRequest[]) => Promise<Map<AppendRequest, JournalVerdict>>,
  ): Promise<JournalVerdict[]> {
    const verdicts = new Map<AppendRequest, JournalVerdict>();
    let left = batch;
    while (left.length > 0) {
      const tasks = new Set<string>();
      const now: AppendRequest[] = [];
      const later: AppendRequest[] = [];
      for (const request of left) {
        (tasks.has(request.taskId) ? later : now).push(request);
        tasks.add(request.taskId);
      }
      now.sort((a, b) => compareIds(a.taskId, b.taskId));
      for (const [request, verdict] of await run(now)) verdicts.set(request, verdict);
      left = later;
    }
    return batch.map((request) => verdicts.get(request)!);
  }

  async function appendOnce(batch: AppendRequest[]): Promise<Map<AppendRequest, JournalVerdict>> {
    const verdicts = new Map<AppendRequest, JournalVerdict>();
    const sent = batch.filter((request) => {
      const refusal = refused(request);
      if (refusal) verdicts.set(request, refusal);
      return refusal === null;
    });
    const withRefs = sent.map((request) => ({
      ...request,
      entries: request.entries.map((e) => ({ ...e, refId: e.task || e.child ? env.ids.next() : null })),
    }));
    const journals = await whileContended(() => appendJournal(pools.hot, withRefs));
    counters.add(
      'baton_journal_entries_total',
      [...journals.values()].reduce((n, j) => n + j.added.length, 0),
    );
    const held = withRefs.filter((request, i) => {
      if (journals.has(request.taskId)) return true;
      verdicts.set(sent[i]!, lost(request.taskId, request.epoch));
      return false;
    });
    const known = await waitsBefore(held, journals);
    await make(held, journals, known);
    const waiting = held.filter((request) => journals.get(request.taskId)!.open > 0);
    const resolved =
      waiting.length > 0
        ? await whileContended(() => resolveJournal(pools.hot, waiting, false))
        : new Map<string, never>();
    const toRead = held.filter((request) => {
      const journal = journals.get(request.taskId)!;
      const now = resolved.get(request.taskId);
      return (
        journal.last !== request.seenPosition ||
        journal.added.length < request.entries.length ||
        (now !== undefined && now.open < journal.open)
      );
    });
    const rows =
      toRead.length > 0
        ? await persist(
            () =>
              readResolved(
                pools.hot,
                toRead.map((r) => ({ runId: journals.get(r.taskId)!.runId, seenPosition: r.seenPosition })),
                Math.max(1, ANSWER_BYTES / toRead.length),
              ),
            env.random,
          )
        : new Map<string, { rows: JournalRow[]; more: boolean }>();
    const isRead = new Set(toRead);
    sent.forEach((request, i) => {
      if (verdicts.has(request)) return;
      const journal = journals.get(request.taskId)!;
      const before = withRefs[i]!;
      const added = writtenRows(before, journal, known.get(request.taskId) ?? []);
      const behind = isRead.has(before)
        ? (rows.get(journal.runId)?.rows ?? []).map((row) => withoutSent(row, request))
        : added.filter((row) => row.position > 0);
      const told = new Set(behind.map((row) => row.number));
      const now = resolved.get(request.taskId) ?? journal;
      verdicts.set(request, {
        rows: [...behind, ...added.filter((row) => row.position === 0 && !told.has(row.number))],
        more: isRead.has(before) && (rows.get(journal.runId)?.more ?? false),
        wakes: now.wakes,
        nowMs: now.nowMs,
      });
    });
    return verdicts;
  }

  /**
   * Of what was sent, the waits that were there before, by task: an earlier call added them, whose answer was lost or whose commit was not
   * heard of. They are told again: nobody else would.
   */
  async function waitsBefore(
    held: readonly AppendRequest[],
    journals: ReadonlyMap<string, AppendedJournal>,
  ): Promise<ReadonlyMap<string, AddedEntry[]>> {
    const repeated = held.flatMap(({ taskId, entries }) => {
      const { runId, added } = journals.get(taskId)!;
      if (added.length === entries.length) return [];
      const fresh = new Set(added.map((a) => a.number));
      return entries.filter((e) => !fresh.has(e.number)).map(({ number }) => ({ runId, number }));
    });
    if (repeated.length === 0) return new Map();
    const waits = await persist(() => readWaits(pools.hot, repeated), env.random);
    return new Map(
      held.map(({ taskId }) => [taskId, waits.filter(({ runId }) => runId === journals.get(taskId)!.runId)]),
    );
  }

  /** Tasks and runs of the entries that wait now: their ids were chosen before, so that nothing is made twice. */
  async function make(
    held: readonly (Omit<AppendRequest, 'entries'> & {
      entries: readonly (CommandEntry & { refId: string | null })[];
    })[],
    journals: ReadonlyMap<string, AppendedJournal>,
    known: ReadonlyMap<string, readonly AddedEntry[]>,
  ): Promise<void> {
    const wanted = held.flatMap(({ taskId, entries }) => {
      const journal = journals.get(taskId)!;
      // Those that an earlier call added too: its master may have died before it made them.
      const refs = new Map([...journal.added, ...(known.get(taskId) ?? [])].map((a) => [a.number, a.refId]));
      return entries
        .filter((e) => e.refId !== null)
        .map((entry) => ({ entry, journal, refId: refs.get(entry.number) ?? null }));
    });
    const made = wanted
      .filter((w) => w.refId !== null)
      .map(({ entry, journal, refId }) => ({
        id: refId!,
        number: entry.number,
        runId: journal.runId,
        namespaceId: journal.namespaceId,
        name: entry.name,
        task: entry.task,
        child: entry.child,
      }));
    const tasks = made.flatMap((m) => (m.task ? [{ ...m, request: m.task }] : []));
    const failed: { runId: string; number: number; failure: Failure }[] = [];
    if (tasks.length > 0) {
      const refused = await maker.tasks(tasks);
      for (const { id, runId, number } of tasks)
        if (refused.has(id)) failed.push({ runId, number, failure: refused.get(id)! });
    }
    for (const m of made)
      if (m.child) {
        const failure = await maker.child({ ...m, request: m.child });
        if (failure) failed.push({ runId: m.runId, number: m.number, failure });
      }
    if (failed.length > 0) {
      await persist(() => failEntries(pools.hot, failed), env.random);
      // They are resolved: the answer is to be read.
      for (const { runId } of failed)
        for (const journal of journals.values()) if (journal.runId === runId) journal.last = -1;
    }
  }

  /** A second writer of one journal is stopped by the unique index, and sees what the first one wrote when it tries again. */
  async function whileContended<T>(run: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await persist(run, env.random);
      } catch (error) {
        if ((error as { code?: string }).code !== '23505' || tries >= MOST_TRIES) throw error;
        counters.add('baton_run_conflicts_total');
      }
    }
  }

  return {
    append: (request) => (request.success === undefined ? appends : successes).add(request),
    async load(lease, afterNumber) {
      let runId: string | null;
      let wakes = '0';
      let nowMs = env.now();
      if (afterNumber === 0) {
        const journal = (await whileContended(() => resolveJournal(pools.hot, [lease], true))).get(lease.taskId);
        runId = journal?.runId ?? null;
        wakes = journal?.wakes ?? '0';
        nowMs = journal?.nowMs ?? nowMs;
      } else runId = await persist(() => heldRun(pools.hot, lease), env.random);
      if (runId === null)
        throw new Refusal('failed_precondition', 'LEASE_LOST', lost(lease.taskId, lease.epoch).message);
      const id = runId;
      const { rows, more } = await persist(
        () =>
          readJournal(pools.hot, id, {
            after: afterNumber,
            limit: PAGE_ENTRIES,
            maxBytes: PAGE_BYTES,
            outputs: true,
          }),
        env.random,
      );
      const open = rows.filter((row) => row.position === 0 && row.refId !== null);
      const born = new Set<string>();
      for (const kind of ['task', 'child'] as const) {
        const ids = open.filter((row) => row.kind === kind).map((row) => row.refId!);
        for (const each of await persist(() => knownRefs(pools.hot, kind, ids), env.random)) born.add(each);
      }
      return {
        rows: rows.map((row) => ({ ...row, unborn: row.position === 0 && row.refId !== null && !born.has(row.refId) })),
        more,
        wakes,
        nowMs,
      };
    },
  };
}

/** What it makes would have to be made first, and what waits has nobody left to wait. */
function endsWhole(request: AppendRequest): boolean {
  return refused(request) === null && request.entries.every((entry) => entry.kind === 'step' && entry.ended);
}

function refused(request: AppendRequest): JournalVerdict | null {
  const numbers = new Set<number>();
  for (const entry of request.entries) {
    if (entry.number > MAX_ENTRIES)
      return { reason: 'JOURNAL_FULL', message: `a run has at most ${MAX_ENTRIES} steps and waits; go on in a child` };
    const isSound =
      entry.number > 0 &&
      !numbers.has(entry.number) &&
      entry.name !== '' &&
      entry.name.length <= 200 &&
      entry.name === storableText(entry.name) &&
      (entry.kind === 'step' || !entry.ended) &&
      (entry.kind === 'task') === (entry.task !== undefined) &&
      (entry.kind === 'child') === (entry.child !== undefined);
    if (!isSound) return { reason: 'INVALID_REQUEST', message: `entry ${entry.number} of the journal makes no sense` };
    numbers.add(entry.number);
  }
  return null;
}

function lost(taskId: string, epoch: number): { reason: 'LEASE_LOST'; message: string } {
  return {
    reason: 'LEASE_LOST',
    message: `the lease of task ${taskId}, epoch ${epoch}, is not this session's any more, or drives no run`,
  };
}

/** What was written now, and what waits since an earlier call, as rows without outputs. */
function writtenRows(request: AppendRequest, journal: AppendedJournal, waits: readonly AddedEntry[]): JournalRow[] {
  const sent = new Map(request.entries.map((e) => [e.number, e]));
  return [...journal.added, ...waits]
    .map((a) => {
      const { number, kind, name, afterPosition, attempts } = sent.get(a.number)!;
      return {
        runId: journal.runId,
        number,
        kind,
        name,
        position: a.position,
        afterPosition,
        atMs: journal.nowMs,
        endedAtMs: a.endedAtMs,
        dueAtMs: a.dueAtMs,
        refId: a.refId,
        attempts,
        encoding: null,
        output: null,
        outputBlob: null,
        failure: null,
      };
    })
    .sort((a, b) => a.position - b.position);
}

/** Of a step that the caller has just sent, it knows the outcome. */
function withoutSent(row: JournalRow, request: AppendRequest): JournalRow {
  const isSent = row.kind === 'step' && request.entries.some((e) => e.number === row.number && e.ended);
  return isSent ? { ...row, output: null, failure: null } : row;
}
