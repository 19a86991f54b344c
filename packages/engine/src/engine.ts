import { Refusal } from '@baton/domain';
import { appendLogs, type NewLogLine } from '@baton/store';
import { createBreakerBook } from './breaker-book.ts';
import { type Breakers, createBreakers } from './breakers.ts';
import { createCoalescer } from './coalescer.ts';
import { createDispatcher } from './dispatcher.ts';
import type { EngineEnvironment } from './environment.ts';
import { createEventHub, type EventHub } from './event-hub.ts';
import { createLaneBook, type LaneBook } from './lane-book.ts';
import { type Counters, createCounters } from './metrics.ts';
import { createOutputKeeper, type OutputChunk, type RefusedOutput } from './outputs.ts';
import { bisect, persist } from './persist.ts';
import { createResults } from './results.ts';
import { createRuns, type Runs } from './runs.ts';
import { createSessions, type Sessions } from './sessions.ts';
import { createSignals } from './signals.ts';
import { type ClientStreams, createClientStreams } from './streams.ts';
import { createSubmitter, type Submitter } from './submit.ts';
import { createSweeper } from './sweeper.ts';
import { createTasks, type Tasks } from './tasks.ts';
import { createWorkflows, type Workflows } from './workflows.ts';

/** What the client services need. An edge function has this much. */
export interface ClientEngine extends ClientStreams {
  env: EngineEnvironment;
  lanes: LaneBook;
  submitter: Submitter;
  tasks: Tasks;
  workflows: Workflows;
  runs: Runs;
  breakers: Breakers;
  counters: Counters;
}

/** All that a master does. */
export interface Engine extends ClientEngine {
  hub: EventHub;
  sessions: Sessions;
  appendLogs(line: NewLogLine): Promise<boolean>;
  /** Keeps output of running tasks; answers with what was not taken. */
  appendOutput(sessionId: string, chunks: readonly OutputChunk[]): Promise<RefusedOutput[]>;
  /** Begins the periodic duties. */
  start(): void;
  /** Ends waiting offers, then the duties. */
  stop(): Promise<void>;
  /** Offers that wait for work now. */
  waitingOffers(): number;
}

/**
 * Wires the use cases together. What a master keeps in memory, here and below, can all be lost without loss to anyone.
 */
export function createEngine(env: EngineEnvironment): Engine {
  const counters = createCounters();
  const lanes = createLaneBook(env);
  const hub = createEventHub(env);
  const ends = createSignals<string>();
  const streams = createClientStreams(env, hub);
  const breakerBook = createBreakerBook(env, () => dispatcher.armAll());
  const dispatcher = createDispatcher(env, lanes, counters, breakerBook);

  const onReady = (laneId: number) => {
    hub.poke();
    dispatcher.arm(laneId);
  };
  const onEnded = (taskId: string, runId: string | null) => {
    ends.raise(taskId);
    streams.outputs.poke(taskId);
    hub.poke();
    if (breakerBook.isProbe(taskId)) breakerBook.poke();
    if (runId !== null) runs.poke();
  };
  const results = createResults(env, lanes, counters, {
    onEnded,
    onReady,
    onBackoff: (delayMs) => sweeper.dueIn(delayMs),
    onSettled: (taskId, sessionId, machineMade) => {
      if (machineMade) breakerBook.poke(sessionId);
      else if (breakerBook.isProbe(taskId)) breakerBook.poke();
    },
  });
  const sessions = createSessions(env, lanes, dispatcher, results, counters, breakerBook);
  const tasks = createTasks(env, hub, ends, { onEnded, orderCancel: sessions.orderCancel });
  const workflows = createWorkflows(env, lanes);
  const runs = createRuns(env, workflows, lanes, counters, {
    onReady,
    onChanged: () => hub.poke(),
    cancelTasks: (namespaceId, ids, reason) => cancelNodes(tasks, namespaceId, ids, reason),
  });
  const sweeper = createSweeper(env, lanes, dispatcher, results, sessions, counters, () => {
    runs.poke();
    breakerBook.poke();
  });

  const logs = createCoalescer<NewLogLine, boolean>({
    maxItems: 2_000,
    maxBytes: env.settings.batchBytes,
    sizeOf: (line) => line.text.length + 100,
    gatherMs: 5,
    run: (batch) =>
      bisect(
        batch,
        async (part) => {
          const refused = await persist(() => appendLogs(env.pools.api, part), env.random);
          return part.map((_, i) => i >= refused);
        },
        () => false,
      ),
  });

  return {
    env,
    lanes,
    hub,
    counters,
    sessions,
    tasks,
    workflows,
    runs,
    breakers: createBreakers(env, () => breakerBook.poke()),
    submitter: createSubmitter(env, lanes, counters, onReady, (delayMs) => sweeper.dueIn(delayMs)),
    appendLogs: logs.add,
    appendOutput: createOutputKeeper(env, streams.outputs.poke),
    ...streams,
    start: () => sweeper.start(),
    async stop() {
      dispatcher.close();
      hub.close();
      await sweeper.stop();
      await breakerBook.stop();
      await runs.stop();
      await logs.idle();
    },
    waitingOffers: () => dispatcher.waiting(),
  };
}

/** The client's part alone: nothing runs between requests. Workers are woken by their master's own looking. */
export function createClientEngine(env: EngineEnvironment): ClientEngine {
  const counters = createCounters();
  const lanes = createLaneBook(env);
  const ends = createSignals<string>();
  const nothing = () => {};
  const tasks = createTasks(env, null, ends, { onEnded: nothing, orderCancel: nothing });
  const workflows = createWorkflows(env, lanes);
  const runs = createRuns(env, workflows, lanes, counters, {
    onReady: nothing,
    onChanged: nothing,
    cancelTasks: (namespaceId, ids, reason) => cancelNodes(tasks, namespaceId, ids, reason),
  });
  return {
    env,
    lanes,
    counters,
    tasks,
    workflows,
    runs,
    breakers: createBreakers(env, nothing),
    submitter: createSubmitter(env, lanes, counters, nothing, nothing),
    ...createClientStreams(env, null),
  };
}

async function cancelNodes(tasks: Tasks, namespaceId: number, ids: readonly string[], reason: string): Promise<void> {
  for (const id of ids)
    await tasks.cancelById(namespaceId, id, reason).catch((error) => {
      // It ended meanwhile: that is what was wanted, or as good.
      if (!(error instanceof Refusal)) throw error;
    });
}
