import type { EngineEnvironment } from '../environment.ts';
import type { EventHub } from '../events/event-hub.ts';
import { type EndsPage, type EndsRequest, watchEnds } from '../runs/ends-watch.ts';
import { createHistory, type ReadHistory } from './history.ts';
import { createOutputReader, type OutputReader } from './outputs.ts';

/** What clients follow or read of a task's life, beside its state. */
export interface ClientStreams {
  /** What tasks stream while they run. */
  outputs: OutputReader;
  /** Ends of tasks as they come; see watchEnds. */
  watchEnds(request: EndsRequest, abort: AbortSignal): AsyncGenerator<EndsPage>;
  history: ReadHistory;
}

/** @param hub null where nobody tails the event log: it is polled */
export function createClientStreams(env: EngineEnvironment, hub: EventHub | null): ClientStreams {
  return {
    outputs: createOutputReader(env),
    watchEnds: (request, abort) => watchEnds(env, hub, request, abort),
    history: createHistory(env),
  };
}
