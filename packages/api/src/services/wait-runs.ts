import { type Run, RunSchema, type WaitRunsRequest } from '@baton/contract';
import type { ClientEngine } from '@baton/engine';
import { MAX_ANSWER_BYTES, type RunRow, readRunEnds } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationMs as millisecondsOf } from '@bufbuild/protobuf/wkt';
import { runHead } from '../messages/run-messages.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';

/** Ends are told in memory, and by other masters' hints; what is lost there costs so much. */
const LOOK_AGAIN_MS = 1_000;
/** Each answer costs about 10 µs for each run that is asked for: those of many wait for more ends. */
const GATHER_MS_A_RUN = 0.05;
/** Where nobody is told. */
const LOOK_MS = 100;

/**
 * Answers as soon as one of the runs has ended, or a few milliseconds later while others have not, with all that have; or with none when the
 * time is over. An answer has about `MAX_ANSWER_BYTES`; what has no place in it comes with the next.
 *
 * @param tellsEnds whether this process hears of ends; else it looks often
 */
export async function waitRuns(
  engine: ClientEngine,
  tellsEnds: boolean,
  options: ApiOptions,
  request: WaitRunsRequest,
  signal: AbortSignal,
): Promise<{ runs: Run[]; missing: string[] }> {
  const { env, lanes } = engine;
  const namespace = request.namespace || 'default';
  const namespaceId = await lanes.knownNamespaceId(namespace);
  const abort = eitherAborts(signal, options.closing);
  // Callers who begin anew when they are told do so together then, and go on together, through all that is done once for many: 16 of them in
  // two crowds cost 2.3 ms of CPU a run, in one 1.6 to 1.8 (npm run bench -- functions).
  const gatherMs = tellsEnds ? Math.max(env.settings.endsGatherMs, request.runIds.length * GATHER_MS_A_RUN) : 0;
  const lookMs = tellsEnds ? LOOK_AGAIN_MS : LOOK_MS;
  const until = env.now() + (request.wait ? millisecondsOf(request.wait) : 0);
  const ids = [...new Set(request.runIds)];
  let isFirst = true;
  for (;;) {
    const leftMs = Math.max(0, until - env.now());
    const over = new AbortController();
    // Before the look: what ends behind it is heard of.
    const heard = leftMs > 0 ? engine.ends.waitAny(ids, Math.min(leftMs, lookMs), over.signal) : null;
    const onAbort = () => over.abort('the call is over');
    abort.addEventListener('abort', onAbort, { once: true });
    try {
      const { ended, missing, isFull } = await look(isFirst);
      const mayGather = gatherMs > 0 && leftMs > gatherMs && ended.length > 0 && missing.length === 0 && !isFull;
      if (mayGather && ended.length < ids.length && !abort.aborted) {
        await new Promise((resolve) => setTimeout(resolve, gatherMs));
        // Those of which nothing is known here but in Postgres come with the next answer.
        const told = new Set(ended.map(({ id }) => id));
        const left = ids.filter((id) => !told.has(id));
        ended.push(...knownEnds(left, MAX_ANSWER_BYTES - bytesOf(ended)));
      }
      if (ended.length > 0 || missing.length > 0 || heard === null || abort.aborted) {
        throwIfCut(signal);
        return {
          runs: ended.map((row) => create(RunSchema, runHead({ ...row, input: null }, namespace, request.format))),
          missing,
        };
      }
      // Nothing was said: then Postgres is asked for all.
      isFirst = await heard;
    } finally {
      abort.removeEventListener('abort', onAbort);
      over.abort('answered');
    }
  }

  /** What is known here of how they ended, as far as so many bytes go. */
  function knownEnds(of: readonly string[], maxBytes: number): RunRow[] {
    const rows: RunRow[] = [];
    let bytes = 0;
    for (const id of of) {
      if (bytes >= maxBytes) break;
      const row = engine.endedRuns.look(id, namespaceId);
      if (row === undefined || row === 'open') continue;
      rows.push(row);
      bytes += sizeOf(row);
    }
    return rows;
  }

  /** Of runs that are known here nobody is asked, but for now and then. */
  async function look(trusts: boolean): Promise<{ ended: RunRow[]; missing: string[]; isFull: boolean }> {
    const ended = knownEnds(ids, MAX_ANSWER_BYTES);
    const told = new Set(ended.map(({ id }) => id));
    const unknown = ids.filter((id) => {
      if (told.has(id)) return false;
      const known = engine.endedRuns.look(id, namespaceId);
      return known === undefined || (known === 'open' && !trusts);
    });
    const bytes = bytesOf(ended);
    const isFull = bytes >= MAX_ANSWER_BYTES;
    if (unknown.length === 0 || isFull || (trusts && ended.length > 0)) return { ended, missing: [], isFull };
    const found = await readRunEnds(env.pools.api, namespaceId, unknown, MAX_ANSWER_BYTES - bytes);
    const seen = new Set([...found.ended.map(({ id }) => id), ...found.later, ...found.open]);
    return {
      ended: [...ended, ...found.ended],
      missing: unknown.filter((id) => !seen.has(id)),
      isFull: found.later.length > 0,
    };
  }
}

const bytesOf = (rows: readonly RunRow[]): number => rows.reduce((sum, row) => sum + sizeOf(row), 0);

const sizeOf = ({ output, failure }: RunRow): number =>
  (output?.byteLength ?? 0) + (failure ? failure.message.length + (failure.stack?.length ?? 0) : 0) + 500;
