import { isId, notFound, Refusal } from '@baton/domain';
import {
  appendOutputs,
  endsOf,
  knownTasks,
  newestOutputAttempt,
  OUTPUT_ROW_BYTES,
  type OutputRun,
  type OutputVerdict,
  outputAttempt,
  readOutput,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { EngineEnvironment } from '../environment.ts';
import { createNamespaceFinder } from '../namespaces.ts';
import { persist } from '../persist.ts';
import { createSignals } from '../runs/signals.ts';

/** A part of what a running task streams. */
export interface OutputChunk {
  taskId: string;
  epoch: number;
  /** Of the first byte. */
  offset: number;
  data: Uint8Array;
}

export interface RefusedOutput {
  taskId: string;
  epoch: number;
  reason: 'LEASE_LOST' | 'OUTPUT_GAP';
  message: string;
  /** With OUTPUT_GAP: where the next chunk has to begin. */
  expectedOffset: number;
}

/** A place in a task's output: behind `offset` bytes of the attempt. */
export interface OutputPlace {
  attempt: number;
  /** 0: the newest of that number. */
  epoch: number;
  offset: number;
}

export interface OutputPage extends OutputPlace {
  /** May be empty: a new attempt, or a sign of life. */
  data: Uint8Array;
  /** A new attempt begins: what earlier ones sent is void. */
  reset: boolean;
}

/** What tasks stream while they run. */
export interface OutputReader {
  /**
   * From a place on (null: the beginning of the newest attempt). With `follow` until the task has ended, otherwise until that
   * attempt's output ends now. Page by page: a reader that waits costs one page.
   *
   * @throws Refusal TASK_NOT_FOUND, INVALID_CURSOR
   */
  read(
    namespace: string,
    taskId: string,
    from: OutputPlace | null,
    follow: boolean,
    abort: AbortSignal,
  ): AsyncGenerator<OutputPage>;
  /** Something of this task was written here: output, or its end. */
  poke(taskId: string): void;
}

/** Soon after something was written, and when nothing is: other masters write too. */
const EAGER_MS = 200;
const IDLE_MS = 1_000;
const EAGER_FOR_MS = 5_000;
const SIGN_OF_LIFE_MS = 15_000;
const EMPTY = new Uint8Array();

export function createOutputReader(env: EngineEnvironment): OutputReader {
  const { api } = env.pools;
  const written = createSignals<string>();
  const namespaceId = createNamespaceFinder(env);

  async function placeOf(taskId: string, from: OutputPlace): Promise<OutputPlace | null> {
    const found =
      from.epoch > 0
        ? await outputAttempt(api, taskId, from.epoch)
        : await newestOutputAttempt(api, taskId, from.attempt > 0 ? from.attempt : null);
    const misnamed = found !== null && from.attempt > 0 && found.attempt !== from.attempt;
    if (misnamed || from.offset > (found?.length ?? 0))
      throw new Refusal('invalid_argument', 'INVALID_CURSOR', `task ${taskId} has no output at this place`, {
        violations: [{ field: 'offset', description: `there are ${found?.length ?? 0} bytes of this attempt` }],
      });
    return found && { attempt: found.attempt, epoch: found.epoch, offset: from.offset };
  }

  async function* read(
    namespace: string,
    taskId: string,
    from: OutputPlace | null,
    follow: boolean,
    abort: AbortSignal,
  ): AsyncGenerator<OutputPage> {
    const ns = isId(taskId) ? await namespaceId(namespace) : null;
    if (ns === null || !(await knownTasks(api, ns, [taskId])).has(taskId)) throw notFound('task', taskId);
    let place = await placeOf(taskId, from ?? { attempt: 0, epoch: 0, offset: 0 });
    let wroteAt = 0;
    let saidAt = env.now();
    let waited: Promise<boolean> | null = null;
    while (!abort.aborted) {
      // In this order: what was sent before the end is seen when the end is.
      const ended = !follow || (await endsOf(api, [taskId])).has(taskId);
      const newest = follow ? await newestOutputAttempt(api, taskId, null) : null;
      if (newest && (place === null || newest.epoch > place.epoch)) {
        const reset = place !== null;
        place = { attempt: newest.attempt, epoch: newest.epoch, offset: 0 };
        if (reset) {
          saidAt = env.now();
          yield { ...place, data: EMPTY, reset };
        }
      }
      const data: Uint8Array | null = place && (await readOutput(api, taskId, place.epoch, place.offset));
      if (place && data) {
        wroteAt = saidAt = env.now();
        waited = null;
        yield { ...place, data, reset: false };
        place.offset += data.byteLength;
        continue;
      }
      if (ended) return;
      const now = env.now();
      if (now - saidAt > SIGN_OF_LIFE_MS) {
        saidAt = now;
        yield { ...(place ?? { attempt: 0, epoch: 0, offset: 0 }), data: EMPTY, reset: false };
      }
      // What is written between the look and the wait must not be missed: wait from before the look on.
      if (waited) await waited;
      waited = written.wait(taskId, now - wroteAt < EAGER_FOR_MS ? EAGER_MS : IDLE_MS, abort);
    }
  }

  return { read, poke: (taskId) => written.raise(taskId) };
}

const MAX_TRIES = 20;

/**
 * Keeps what workers send of their tasks' output, fenced, without a gap.
 *
 * @param onWritten called with a task's id when something of it was kept
 * @returns takes the chunks of one call; answers with those that were not taken, one for each run of chunks
 */
export function createOutputKeeper(
  env: EngineEnvironment,
  onWritten: (taskId: string) => void,
): (sessionId: string, chunks: readonly OutputChunk[]) => Promise<RefusedOutput[]> {
  const runs = createCoalescer<OutputRun, OutputVerdict>({
    endOfTurn: env.endOfTurn,
    maxItems: 200,
    maxBytes: env.settings.batchBytes,
    sizeOf: (run) => lengthOf(run) + 100,
    inFlight: 2,
    async run(batch) {
      const verdicts = new Array<OutputVerdict>(batch.length);
      let rest = batch.map((_, i) => i);
      while (rest.length > 0) {
        // One run of a lease at a time: the next one begins where this one ends.
        const leases = new Set<string>();
        const now: number[] = [];
        const later: number[] = [];
        for (const i of rest) {
          const lease = leaseOf(batch[i]!);
          (leases.has(lease) ? later : now).push(i);
          leases.add(lease);
        }
        const given = await keep(now.map((i) => batch[i]!));
        now.forEach((i, n) => {
          verdicts[i] = given[n]!;
        });
        rest = later;
      }
      return verdicts;
    },
  });

  async function keep(batch: OutputRun[]): Promise<OutputVerdict[]> {
    for (let tries = 1; ; tries++) {
      try {
        return await persist(() => appendOutputs(env.pools.api, batch), env.random);
      } catch (error) {
        // Another call wrote at the same place in the same moment: see what is there now.
        if ((error as { code?: string } | null)?.code !== '23505' || tries >= MAX_TRIES) throw error;
      }
    }
  }

  return async (sessionId, chunks) => {
    const refused: RefusedOutput[] = [];
    await Promise.all(
      [...runsOf(sessionId, chunks).values()].map(async (ofOneLease) => {
        for (const run of ofOneLease) {
          const { taskId, epoch, offset } = run;
          const { endedAt } = epoch > MAX_EPOCH ? { endedAt: null } : await runs.add(run);
          if (endedAt === null) {
            const message = `the lease of task ${taskId}, epoch ${epoch}, is not this session's any more`;
            refused.push({ taskId, epoch, reason: 'LEASE_LOST', message, expectedOffset: 0 });
            return;
          }
          if (endedAt < offset) {
            const message = `a chunk begins at ${offset}; the output of task ${taskId}, epoch ${epoch}, ends at ${endedAt}`;
            refused.push({ taskId, epoch, reason: 'OUTPUT_GAP', message, expectedOffset: endedAt });
            return;
          }
          onWritten(taskId);
        }
      }),
    );
    return refused;
  };
}

/** Of an integer column. */
const MAX_EPOCH = 2 ** 31 - 1;

/** The chunks of one call as runs without a gap, by lease, in the order of their offsets. */
function runsOf(sessionId: string, chunks: readonly OutputChunk[]): Map<string, OutputRun[]> {
  const leases = new Map<string, OutputChunk[]>();
  for (const chunk of chunks) {
    const key = leaseOf(chunk);
    const known = leases.get(key);
    if (known) known.push(chunk);
    else leases.set(key, [chunk]);
  }
  const runs = new Map<string, OutputRun[]>();
  for (const [key, own] of leases) {
    own.sort((a, b) => a.offset - b.offset);
    const merged: { offset: number; end: number; parts: Uint8Array[] }[] = [];
    for (const { offset, data } of own) {
      const last = merged.at(-1);
      if (!last || offset > last.end) {
        merged.push({ offset, end: offset + data.byteLength, parts: [data] });
      } else if (offset + data.byteLength > last.end) {
        last.parts.push(data.subarray(last.end - offset));
        last.end = offset + data.byteLength;
      }
    }
    const { taskId, epoch } = own[0]!;
    runs.set(
      key,
      merged.map(({ offset, parts }) => ({ sessionId, taskId, epoch, offset, pieces: rowsOf(parts) })),
    );
  }
  return runs;
}

/** The bytes of a run, cut as they are kept. At least one piece, which may be empty. */
function rowsOf(parts: readonly Uint8Array[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let gathered: Uint8Array[] = [];
  let size = 0;
  const close = () => {
    if (size === 0) return;
    if (gathered.length === 1) pieces.push(gathered[0]!);
    else {
      const piece = new Uint8Array(size);
      let at = 0;
      for (const part of gathered) {
        piece.set(part, at);
        at += part.byteLength;
      }
      pieces.push(piece);
    }
    gathered = [];
    size = 0;
  };
  for (let part of parts) {
    while (part.byteLength > 0) {
      const taken = part.subarray(0, OUTPUT_ROW_BYTES - size);
      gathered.push(taken);
      size += taken.byteLength;
      part = part.subarray(taken.byteLength);
      if (size === OUTPUT_ROW_BYTES) close();
    }
  }
  close();
  return pieces.length > 0 ? pieces : [EMPTY];
}

function leaseOf({ taskId, epoch }: { taskId: string; epoch: number }): string {
  return `${taskId}/${epoch}`;
}

function lengthOf(run: OutputRun): number {
  return run.pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
}
