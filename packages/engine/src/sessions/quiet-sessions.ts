import type { Renewal, Renewed } from '@baton/store';

/** Begins to count: the answer says how many ms have passed since. */
export type StopWatch = () => () => number;

/** A heartbeat with nothing to say but that its worker lives. */
export interface QuietBeat {
  sessionId: string;
  /** Rises with each heartbeat of the session. */
  number: bigint;
  metrics: Record<string, number> | null;
}

/**
 * Sessions that hold nothing, as Postgres said last, whose heartbeats are answered without asking it each time.
 *
 * What a worker is told is never more than what its row in `sessions` has left at that moment, so that nobody ends a session before the
 * time that its worker counts on, whatever becomes of this master. The heartbeats are written together a little later, each as
 * of when it was heard; what they add is what the next answers may tell. A session with less than half of its time left is not answered
 * from here, nor is one that holds something or has been told something: these ask Postgres, and wait.
 *
 * Nothing here has timers or statements: who keeps this book calls `due` and `written`.
 */
export interface QuietSessions {
  /** Postgres has renewed this session for a heartbeat that was heard when `sinceHeardMs` began; null: it is over. */
  renewed(sessionId: string, sinceHeardMs: () => number, as: QuietState | null): void;
  /** @returns how long the session's row has still time at least, ms; null: Postgres is to be asked */
  answer(beat: QuietBeat): number | null;
  /** Heartbeats that were answered and are to be written, by session; they are taken out. */
  due(): Renewal[];
  /** What became of them. @returns sessions that are over */
  written(batch: readonly Renewal[], renewed: ReadonlyMap<string, QuietState>): string[];
  /** These could not be written, as far as is known. */
  failed(batch: readonly Renewal[]): void;
  /** There is more to say about this session than from here. */
  forget(sessionId: string): void;
}

export type QuietState = Pick<Renewed, 'state' | 'shutdown' | 'count' | 'recall' | 'beat'>;

/** Of a lease: a row with less left is written before its heartbeat is answered. */
const LEAST_LEFT = 0.5;

interface Quiet {
  /** Since the newest heartbeat that is in the row: what it has left is a lease without that. */
  sinceWrittenMs: () => number;
  /** Answered, and not written yet. */
  pending: { sinceHeardMs: () => number; metrics: Record<string, number> | null } | null;
  /** The newest number that was heard here. */
  beat: bigint;
}

export function createQuietSessions(leaseTtlMs: number, watch: StopWatch): QuietSessions {
  const quiet = new Map<string, Quiet>();
  /** Those with something pending. */
  const toWrite = new Set<string>();
  /** On their way to Postgres, and when they were heard. */
  const onTheWay = new WeakMap<Renewal, () => number>();

  const forget = (sessionId: string) => {
    quiet.delete(sessionId);
    toWrite.delete(sessionId);
  };

  const isQuiet = ({ state, shutdown, count, recall }: QuietState) =>
    state === 'active' && !shutdown && count === 0 && recall === 0;

  function renewed(sessionId: string, sinceHeardMs: () => number, as: QuietState | null): void {
    if (as === null || !isQuiet(as)) {
      forget(sessionId);
      return;
    }
    const known = quiet.get(sessionId);
    const beat = BigInt(as.beat);
    if (!known) quiet.set(sessionId, { sinceWrittenMs: sinceHeardMs, pending: null, beat });
    else {
      // The later of the two: rows never lose time.
      if (sinceHeardMs() < known.sinceWrittenMs()) known.sinceWrittenMs = sinceHeardMs;
      if (beat > known.beat) known.beat = beat;
    }
  }

  return {
    renewed,
    answer({ sessionId, number, metrics }) {
      const known = quiet.get(sessionId);
      if (!known) return null;
      const leftMs = leaseTtlMs - known.sinceWrittenMs();
      if (leftMs < leaseTtlMs * LEAST_LEFT) return null;
      // An old one, repeated or late, renews nothing that the newer one did not.
      if (number > known.beat) {
        known.beat = number;
        known.pending = { sinceHeardMs: watch(), metrics };
        toWrite.add(sessionId);
      }
      return Math.floor(leftMs);
    },
    due() {
      const batch: Renewal[] = [];
      for (const sessionId of toWrite) {
        const known = quiet.get(sessionId)!;
        const { sinceHeardMs, metrics } = known.pending!;
        known.pending = null;
        const renewal = { sessionId, leaseTtlMs, ageMs: sinceHeardMs(), metrics, number: known.beat.toString() };
        onTheWay.set(renewal, sinceHeardMs);
        batch.push(renewal);
      }
      toWrite.clear();
      return batch.sort((a, b) => (a.sessionId < b.sessionId ? -1 : 1));
    },
    written(batch, as) {
      const over: string[] = [];
      for (const renewal of batch) {
        const { sessionId } = renewal;
        const state = as.get(sessionId) ?? null;
        if (state === null) over.push(sessionId);
        // Whoever was forgotten meanwhile stays so until it was asked for.
        if (quiet.has(sessionId)) renewed(sessionId, onTheWay.get(renewal)!, state);
      }
      return over;
    },
    failed(batch) {
      for (const { sessionId } of batch) forget(sessionId);
    },
    forget,
  };
}
