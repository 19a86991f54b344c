import { type Run, RunSchema, type WaitRunsRequest } from '@baton/contract';
import type { ClientEngine, EventHub } from '@baton/engine';
import { readRuns } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationMs as millisecondsOf } from '@bufbuild/protobuf/wkt';
import { type ApiOptions, eitherAborts, throwIfCut } from './options.ts';
import { runHead } from './run-messages.ts';

/** Runs that other masters end are seen by the event log; what is lost there costs so much. */
const LOOK_AGAIN_MS = 1_000;
/** Without a tailer of the event log. */
const LOOK_MS = 100;
const ENDED: readonly string[] = ['succeeded', 'failed', 'cancelled'];

/** Answers as soon as one of the runs has ended, with all that have; or with none when the time is over. */
export async function waitRuns(
  engine: ClientEngine,
  hub: EventHub | null,
  options: ApiOptions,
  request: WaitRunsRequest,
  signal: AbortSignal,
): Promise<{ runs: Run[]; missing: string[] }> {
  const { env, lanes } = engine;
  const namespace = request.namespace || 'default';
  const namespaceId = await lanes.knownNamespaceId(namespace);
  const abort = eitherAborts(signal, options.closing);
  const wanted = new Set(request.runIds);
  const until = env.now() + (request.wait ? millisecondsOf(request.wait) : 0);
  let changed = false;
  let wake = () => {};
  const stop = hub?.listen((batch) => {
    if (!batch.events.some((event) => wanted.has(event.runId))) return;
    changed = true;
    wake();
  });
  try {
    // What is written from now on is heard of.
    await hub?.standing();
    for (;;) {
      changed = false;
      const rows = await readRuns(env.pools.api, namespaceId, [...wanted]);
      const ended = rows.filter((row) => ENDED.includes(row.state));
      const missing = rows.length < wanted.size ? [...wanted].filter((id) => !rows.some((row) => row.id === id)) : [];
      const leftMs = until - env.now();
      if (ended.length > 0 || missing.length > 0 || leftMs <= 0 || abort.aborted) {
        throwIfCut(signal);
        return {
          runs: ended.map((row) => create(RunSchema, runHead({ ...row, input: null }, namespace, request.format))),
          missing,
        };
      }
      const woken = new AbortController();
      wake = () => woken.abort();
      if (!changed) await sleep(Math.min(leftMs, hub ? LOOK_AGAIN_MS : LOOK_MS), abort, woken.signal);
      wake = () => {};
    }
  } finally {
    stop?.();
  }
}

/** Until the time is over or one of these is aborted. */
export function sleep(ms: number, ...aborts: readonly AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    if (ms <= 0 || aborts.some((abort) => abort.aborted)) {
      resolve();
      return;
    }
    const done = () => {
      clearTimeout(timer);
      for (const abort of aborts) abort.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    for (const abort of aborts) abort.addEventListener('abort', done, { once: true });
  });
}
