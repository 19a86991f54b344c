import type { RunRow } from '@baton/store';

/**
 * What one master knows of runs without asking Postgres: that a run was begun here and nothing has been heard of its end; or how it ended, for
 * good. All of it can be lost, and the first can be out of date (its end was another master's doing): who waits looks by himself now and then.
 */
export interface EndedRuns {
  /** To be called before anybody else can know of the run. */
  begins(runId: string, namespaceId: number): void;
  /** With `row` it has ended so, and stays so: it succeeded. Without, Postgres knows. */
  ended(runId: string, row?: RunRow): void;
  /** Something ended, and nobody said what. */
  forgetOpen(): void;
  /** Undefined: not known here, or of another namespace. */
  look(runId: string, namespaceId: number): RunRow | 'open' | undefined;
}

const MOST_OPEN = 50_000;
const MOST_ENDED = 5_000;
/** Outputs above this are read again. */
const OUTPUT_BYTES = 4_096;

export function createEndedRuns(): EndedRuns {
  const open = new Map<string, number>();
  const over = new Map<string, RunRow>();

  return {
    begins(runId, namespaceId) {
      open.set(runId, namespaceId);
      if (open.size > MOST_OPEN) for (const oldest of open.keys()) return void open.delete(oldest);
    },
    ended(runId, row) {
      open.delete(runId);
      // What failed or was cancelled can go on: see retry.
      if (row?.state !== 'succeeded' || row.form !== 'function' || (row.output?.byteLength ?? 0) > OUTPUT_BYTES) return;
      over.set(runId, row);
      if (over.size > MOST_ENDED) for (const oldest of over.keys()) return void over.delete(oldest);
    },
    forgetOpen: () => open.clear(),
    look(runId, namespaceId) {
      const row = over.get(runId);
      if (row) return row.namespaceId === namespaceId ? row : undefined;
      return open.get(runId) === namespaceId ? 'open' : undefined;
    },
  };
}
