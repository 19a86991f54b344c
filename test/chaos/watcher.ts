import { setTimeout as sleep } from 'node:timers/promises';
import { createFetchTransport } from '@baton/client';
import { EventService, type WatchResponse } from '@baton/contract';
import type { SeenEvent, Watcher } from '@baton/testkit/history';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import type { Random } from './random.ts';

/** How a connection may end when networks and masters do; anything else is a mistake. */
const BROKEN = new Set([Code.Unavailable, Code.Canceled, Code.Aborted, Code.DeadlineExceeded, Code.Unknown]);
/** Nothing came for so long, not even a sign of life: the connection is taken for dead. */
const SILENCE_MS = 6_000;
/** Connected, and nothing new for so long after all has ended: nothing more will come. */
const QUIET_MS = 2_000;

export interface WatcherOptions {
  readonly name: string;
  readonly url: string;
  /** EventTypes; null: all. */
  readonly types: readonly number[] | null;
  /** Null: all. */
  readonly taskIds: readonly string[] | null;
  /** Watches from this time on, before anything happened; undefined: from now on. */
  readonly sinceMs?: number;
  readonly random: Random;
  /** It was told something that a watcher must not be told. */
  readonly onWrong: (what: string) => void;
}

export interface Watching {
  readonly connections: number;
  /** To be called when nothing happens any more: waits until it has seen all, at most so long, and ends. */
  finish(limitMs: number): Promise<Watcher>;
}

/** Watches over many connections: they break by themselves, and it leaves them on purpose; it goes on from its cursor. */
export function startWatcher(options: WatcherOptions): Watching {
  const { name, url, types, taskIds, sinceMs, random, onWrong } = options;
  const client = createClient(EventService, createFetchTransport({ url }));
  const connections: { readonly events: SeenEvent[] }[] = [];
  const over = new AbortController();
  let cursor = '';
  /** When the present connection began to be quiet; undefined: there is none. */
  let quietSinceMs: number | undefined;

  function takeOver({ events, cursor: behind }: WatchResponse, seen: SeenEvent[]): void {
    for (const { event } of events)
      if (event) seen.push({ type: event.type, taskId: event.taskId, runId: event.runId, attempt: event.attempt });
    if (behind !== '') cursor = behind;
    if (events.length > 0 || quietSinceMs === undefined) quietSinceMs = performance.now();
  }

  async function connect(leaveAfterMs: number): Promise<void> {
    const seen: SeenEvent[] = [];
    connections.push({ events: seen });
    const leave = new AbortController();
    let heard = performance.now();
    const began = heard;
    const watchdog = setInterval(() => {
      const now = performance.now();
      if (now - heard > SILENCE_MS || now - began > leaveAfterMs) leave.abort();
    }, 100);
    const since = cursor === '' && sinceMs !== undefined ? timestampFromMs(Math.floor(sinceMs)) : undefined;
    const request = { cursor, since, subscriptions: [{ types: [...(types ?? [])], taskIds: [...(taskIds ?? [])] }] };
    try {
      const signal = AbortSignal.any([over.signal, leave.signal]);
      for await (const response of client.watch(request, { signal, timeoutMs: 0 })) {
        heard = performance.now();
        takeOver(response, seen);
      }
    } finally {
      clearInterval(watchdog);
      quietSinceMs = undefined;
    }
  }

  const watching = (async () => {
    while (!over.signal.aborted) {
      // Broken, or left on purpose: on from the cursor.
      await connect(random.whole(3_000, 25_000)).catch((error) => {
        const { code, message } = ConnectError.from(error);
        if (!BROKEN.has(code)) onWrong(`watcher ${name} got ${message}`);
      });
      await sleep(Math.random() * 300);
    }
  })();

  return {
    get connections() {
      return connections.length;
    },
    async finish(limitMs) {
      const until = performance.now() + limitMs;
      const from = performance.now();
      // Counted from now on, and on one connection: what happened last may still be on its way.
      const isQuiet = () => quietSinceMs !== undefined && performance.now() - Math.max(from, quietSinceMs) > QUIET_MS;
      while (!isQuiet() && performance.now() < until) await sleep(50);
      const complete = isQuiet();
      over.abort();
      await watching;
      return { name, types, taskIds, from: sinceMs === undefined ? 'later' : 'beginning', complete, connections };
    },
  };
}
