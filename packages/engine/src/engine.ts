import { appendLogs, type NewLogLine, type RunRow, type Success } from '@baton/store';
import { createCoalescer } from './coalescer.ts';
import { type Artifacts, createArtifacts } from './data/artifacts.ts';
import { type Blobs, createBlobs } from './data/blobs.ts';
import { type Checkpoints, createCheckpoints } from './data/checkpoints.ts';
import { createBreakerBook } from './dispatch/breaker-book.ts';
import { type Breakers, createBreakers } from './dispatch/breakers.ts';
import { createDispatcher } from './dispatch/dispatcher.ts';
import { type Explanation, explainTask } from './dispatch/explain.ts';
import { createEdgeHints, createHints, type Hints, noHints } from './dispatch/hints.ts';
import { createLaneBook, type LaneBook } from './dispatch/lane-book.ts';
import type { EngineEnvironment } from './environment.ts';
import { createEventHub, type EventHub } from './events/event-hub.ts';
import { createFunctionRuns, type FunctionRuns } from './functions/function-runs.ts';
import { createJournals, type Journals } from './functions/journal.ts';
import { type Counters, createCounters } from './metrics.ts';
import { bisect, persist } from './persist.ts';
import { createEndedRuns, type EndedRuns } from './runs/ended-runs.ts';
import { createNodeNames } from './runs/node-names.ts';
import { createRunEstimates, type RunEstimates } from './runs/run-estimates.ts';
import { createRuns, type Runs } from './runs/runs.ts';
import { createSignals, type Signals } from './runs/signals.ts';
import { createWorkflows, type Workflows } from './runs/workflows.ts';
import { createDeadlines } from './sessions/deadlines.ts';
import { createSessions, type Sessions } from './sessions/sessions.ts';
import { createFailures, type Failures } from './tasks/failures.ts';
import { createOutputKeeper, type OutputChunk, type RefusedOutput } from './tasks/outputs.ts';
import { createQueues, type Queues } from './tasks/queues.ts';
import { createResults, settleReturned } from './tasks/results.ts';
import { type ClientStreams, createClientStreams } from './tasks/streams.ts';
import { createSubmitter, type Submitter } from './tasks/submit.ts';
import { createTaskEnds, type TaskEnds } from './tasks/task-ends.ts';
import { createTasks, type Tasks } from './tasks/tasks.ts';
import { createRetention } from './upkeep/retention.ts';
import { createSweeper } from './upkeep/sweeper.ts';

/** What the client services need. An edge function has this much. */
export interface ClientEngine extends ClientStreams {
  /** Raised with the id of a run, or of a task, when its end was written here or another master said so. At the edge: never. */
  ends: Pick<Signals<string>, 'waitAny'>;
  /** What this process knows of runs without asking Postgres. At the edge: nothing. */
  endedRuns: Pick<EndedRuns, 'look'>;
  env: EngineEnvironment;
  lanes: LaneBook;
  submitter: Submitter;
  tasks: Tasks;
  taskEnds: Pick<TaskEnds, 'wait'>;
  workflows: Workflows;
  runs: Runs;
  /** How long runs take, by what earlier ones took. */
  runEstimates: RunEstimates;
  functions: FunctionRuns;
  breakers: Breakers;
  failures: Failures;
  blobs: Blobs;
  artifacts: Artifacts;
  checkpoints: Checkpoints;
  queues: Queues;
  counters: Counters;
  /** Why a task does not run. @throws Refusal TASK_NOT_FOUND */
  explain(namespace: string, taskId: string): Promise<Explanation>;
}

/** All that a master does. */
export interface Engine extends ClientEngine {
  hub: EventHub;
  sessions: Sessions;
  /** Journals of durable functions, as workers write them. */
  journals: Journals;
  appendLogs(line: NewLogLine): Promise<boolean>;
  /** Keeps output of running tasks; answers with what was not taken. */
  appendOutput(sessionId: string, chunks: readonly OutputChunk[]): Promise<RefusedOutput[]>;
  /** Begins the periodic duties. */
  start(): void;
  /** Looks at once at what has become due and who is gone: for whoever has moved the clock. */
  look(): Promise<void>;
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
  const blobs = createBlobs(env, lanes);
  const artifacts = createArtifacts(env, lanes, blobs);
  const hub = createEventHub(env);
  const ends = createSignals<string>();
  const endedRuns = createEndedRuns();
  const taskEnds = createTaskEnds(env, true);
  const streams = createClientStreams(env, hub);
  const nodeNames = createNodeNames();
  const breakerBook = createBreakerBook(
    env,
    () => dispatcher.armAll(),
    () => dispatcher.armed(),
  );
  const dispatcher = createDispatcher(
    env,
    lanes,
    counters,
    breakerBook,
    (unsent) => {
      env.log.info('leases taken back that were not sent in time', { leases: unsent.length });
      // What fails here comes back when its worker says that it never heard of it.
      void results.settle(unsent.map((lease) => settleReturned(lease))).catch(() => {});
    },
    nodeNames,
  );

  const hints: Hints = env.hints
    ? createHints(env, env.hints, {
        onLanes: (laneIds) => void armNamed(laneIds),
        onOrders: (sessionIds) => void sessions.look(sessionIds).catch(() => {}),
        onEnded: (taskIds) => {
          if (taskIds === null) {
            endedRuns.forgetOpen();
            taskEnds.tellAll();
            ends.raiseAll();
          } else
            for (const taskId of taskIds) {
              endedRuns.ended(taskId);
              taskEnds.tell(taskId);
              ends.raise(taskId);
            }
        },
        onRuns: () => runs.poke(),
        onChanged: () => hub.poke(),
        onGap: () => dispatcher.armAll(),
      })
    : noHints;

  /** Lanes that another master found something in; one that is new there may be new here. */
  async function armNamed(laneIds: readonly number[]): Promise<void> {
    if (laneIds.some((id) => !lanes.get(id)))
      for (const lane of await lanes.refresh().catch(() => [])) dispatcher.arm(lane.id);
    for (const id of laneIds) if (lanes.get(id)) dispatcher.arm(id);
  }

  const onReady = (laneId: number) => {
    hub.poke();
    dispatcher.arm(laneId);
    hints.lane(laneId);
    hints.changed();
  };
  const onEnded = (taskId: string, runId: string | null, success?: Success) => {
    taskEnds.tell(taskId, success);
    ends.raise(taskId);
    streams.outputs.poke(taskId);
    hub.poke();
    hints.ended(taskId);
    if (breakerBook.isProbe(taskId)) breakerBook.poke();
    if (runId !== null) runs.poke();
  };
  const results = createResults(env, lanes, blobs, counters, {
    onEnded,
    onReady,
    onBackoff: (delayMs) => sweeper.dueIn(delayMs),
    onSettled: (taskId, sessionId, machineMade) => {
      if (machineMade) breakerBook.poke(sessionId);
      else if (breakerBook.isProbe(taskId)) breakerBook.poke();
    },
  });
  const sessions = createSessions(env, lanes, dispatcher, results, counters, breakerBook, hints.orders);
  const tasks = createTasks(env, hub, ends, { onEnded, orderCancel: sessions.orderCancel });
  const workflows = createWorkflows(env, lanes);
  const onStandingChanged = () => {
    hub.poke();
    hints.changed();
  };
  /** The ids of runs and tasks are of one kind: who waits for a run hears of it as others hear of their tasks. */
  const onRunEnded = (runId: string, row?: RunRow) => {
    endedRuns.ended(runId, row);
    ends.raise(runId);
    hints.ended(runId);
  };
  const functions: FunctionRuns = createFunctionRuns(env, lanes, artifacts, counters, {
    onReady,
    reserve: dispatcher.reserve,
    onChanged: onStandingChanged,
    onTaskEnded: (taskId) => onEnded(taskId, null),
    onRunEnded,
    onRunBegins: endedRuns.begins,
    cancelTasks: tasks.cancelAll,
    cancelRun: (namespaceId, runId, reason) => runs.cancel(namespaceId, runId, reason),
    startChild: (namespaceId, child) => runs.startChild(namespaceId, child),
    poke: () => runs.poke(),
  });
  const runs: Runs = createRuns(env, workflows, lanes, blobs, artifacts, counters, functions, {
    onReady,
    onStored: nodeNames.remember,
    onChanged: onStandingChanged,
    onRunEnded,
    cancelTasks: tasks.cancelAll,
  });
  const retention = createRetention(env);
  const deadlines = createDeadlines(env, dispatcher, results, sessions, counters, { onEnded, onOrders: hints.orders });
  const sweeper = createSweeper(env, lanes, dispatcher, results, sessions, deadlines, counters, {
    onReady,
    areHintsHeard: hints.areHeard,
    onRound: ({ advances, breakers, masters }) => {
      if (advances) runs.poke();
      breakerBook.lookAgain(breakers);
      hints.living(masters);
    },
    onSlowRound: () => functions.wakeSleepers(),
    onHousekeeping: () => {
      void retention.runIfDue();
      void sessions.dropOldHealth();
    },
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
          return part.map((_, i) => !refused.has(i));
        },
        () => false,
      ),
  });

  const submitter = createSubmitter(env, lanes, blobs, artifacts, counters, {
    onReady,
    onDelayed: (delayMs) => sweeper.dueIn(delayMs),
    reserve: dispatcher.reserve,
    onHanded: onStandingChanged,
  });
  return {
    env,
    ends,
    endedRuns,
    lanes,
    hub,
    counters,
    sessions,
    tasks,
    taskEnds,
    workflows,
    runs,
    runEstimates: createRunEstimates(env),
    functions,
    blobs,
    artifacts,
    checkpoints: createCheckpoints(env, blobs, counters),
    breakers: createBreakers(env, () => breakerBook.poke()),
    queues: createQueues(env, lanes, dispatcher.armAll),
    explain: (namespace, taskId) => explainTask(env, namespace, taskId),
    submitter,
    failures: createFailures(env, lanes, submitter, artifacts),
    journals: createJournals(env, counters, functions.maker, functions.onCompleted),
    appendLogs: logs.add,
    appendOutput: createOutputKeeper(env, streams.outputs.poke),
    ...streams,
    start() {
      hints.start();
      sweeper.start();
    },
    look: () => sweeper.look(),
    async stop() {
      dispatcher.close();
      hub.close();
      await hints.stop();
      await sweeper.stop();
      await sessions.stop();
      await retention.stop();
      await breakerBook.stop();
      await runs.stop();
      await logs.idle();
    },
    waitingOffers: () => dispatcher.waiting(),
  };
}

/** The client's part alone: nothing runs between requests. Masters are told by hints. */
export function createClientEngine(env: EngineEnvironment): ClientEngine {
  const counters = createCounters();
  const lanes = createLaneBook(env);
  const blobs = createBlobs(env, lanes);
  const artifacts = createArtifacts(env, lanes, blobs);
  const ends = createSignals<string>();
  const nothing = () => {};
  // Workers wait at masters.
  const nobodyWaits = () => null;
  const hints = createEdgeHints(env);
  const tasks = createTasks(env, null, ends, {
    onEnded: (_, runId) => runId !== null && hints.run(),
    orderCancel: (sessionId) => hints.orders(sessionId),
  });
  const workflows = createWorkflows(env, lanes);
  const functions: FunctionRuns = createFunctionRuns(env, lanes, artifacts, counters, {
    onReady: hints.lane,
    reserve: nobodyWaits,
    onChanged: hints.run,
    onTaskEnded: nothing,
    onRunEnded: hints.run,
    onRunBegins: nothing,
    cancelTasks: tasks.cancelAll,
    cancelRun: (namespaceId, runId, reason) => runs.cancel(namespaceId, runId, reason),
    startChild: (namespaceId, child) => runs.startChild(namespaceId, child),
    poke: hints.run,
  });
  const runs: Runs = createRuns(env, workflows, lanes, blobs, artifacts, counters, functions, {
    onReady: hints.lane,
    onStored: nothing,
    onChanged: hints.run,
    onRunEnded: hints.run,
    cancelTasks: tasks.cancelAll,
  });
  const submitter = createSubmitter(env, lanes, blobs, artifacts, counters, {
    onReady: hints.lane,
    onDelayed: nothing,
    reserve: nobodyWaits,
    onHanded: nothing,
  });
  return {
    env,
    ends,
    taskEnds: createTaskEnds(env, false),
    endedRuns: { look: () => undefined },
    lanes,
    counters,
    tasks,
    workflows,
    runs,
    runEstimates: createRunEstimates(env),
    functions,
    blobs,
    artifacts,
    checkpoints: createCheckpoints(env, blobs, counters),
    breakers: createBreakers(env, nothing),
    queues: createQueues(env, lanes, nothing),
    explain: (namespace, taskId) => explainTask(env, namespace, taskId),
    submitter,
    failures: createFailures(env, lanes, submitter, artifacts),
    ...createClientStreams(env, null),
  };
}
