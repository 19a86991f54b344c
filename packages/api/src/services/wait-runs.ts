import { type Run, RunSchema, type WaitRunsRequest } from '@baton/contract';
import type { ClientEngine } from '@baton/engine';
import { type RunRow, readRuns } from '@baton/engine';
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
const ENDED: readonly string[] = ['succeeded', 'failed', 'cancelled'];

/**
 * Answers as soon as one of the runs has ended, or a few milliseconds later while others have not, with all that have; or with none when the
 * time is over.
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
      const { ended, missing } = await look(isFirst);
      const mayGather = gatherMs > 0 && leftMs > gatherMs && ended.length > 0 && missing.length === 0;
      if (mayGather && ended.length < ids.length && !abort.aborted) {
        await new Promise((resolve) => setTimeout(resolve, gatherMs));
        // Those of which nothing is known here but in Postgres come with the next answer.
        const told = new Set(ended.map(({ id }) => id));
        for (const id of ids) {
          const row = told.has(id) ? undefined : engine.endedRuns.look(id, namespaceId);
          if (row !== undefined && row !== 'open') ended.push(row);
        }
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

  /** Of runs that are known here nobody is asked, but for now and then. */
  async function look(trusts: boolean): Promise<{ ended: RunRow[]; missing: string[] }> {
    const known = new Map(ids.map((id) => [id, engine.endedRuns.look(id, namespaceId)]));
    const ended = [...known.values()].filter((row) => row !== undefined && row !== 'open');
    const unknown = ids.filter((id) => known.get(id) === undefined || (known.get(id) === 'open' && !trusts));
    if (unknown.length === 0 || (trusts && ended.length > 0)) return { ended, missing: [] };
    const rows = await readRuns(env.pools.api, namespaceId, unknown);
    return {
      ended: [...ended, ...rows.filter((row) => ENDED.includes(row.state))],
      missing: rows.length < unknown.length ? unknown.filter((id) => !rows.some((row) => row.id === id)) : [],
    };
  }
}
