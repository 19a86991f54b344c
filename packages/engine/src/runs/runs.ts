import { isId, type NodeState, notFound, planRetryFrom, Refusal, storableText } from '@baton/domain';
import {
  type Encoding,
  freeExpiredKeys,
  hex,
  insertRuns,
  lookUpKeys,
  type NewRun,
  type NewTask,
  type RunState,
  readNodeStandings,
  readRelease,
  readRun,
  readWorkflow,
  reopenRun,
  requestRunCancel,
  type WorkflowRow,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { Artifacts } from '../data/artifacts.ts';
import type { Blobs } from '../data/blobs.ts';
import { sha256 } from '../data/digest.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import { readFunctionForm } from '../functions/function-definition.ts';
import type { FunctionRuns } from '../functions/function-runs.ts';
import { createNewestFunctions } from '../functions/newest-functions.ts';
import type { Counters } from '../metrics.ts';
import { bisect, persist } from '../persist.ts';
import { keyConflict, sameBytes } from '../tasks/submit.ts';
import { compileWorkflow, createRunContexts } from './run-context.ts';
import { createRunLoop } from './run-loop.ts';
import { createNodeStarter } from './run-nodes.ts';
import { createStepPlanner } from './run-step.ts';
import { createRunValues } from './run-values.ts';
import type { Workflows } from './workflows.ts';

export interface StartRun {
  /** `release`: of a durable function, the version of its code. */
  workflow: { name: string; version: number | null; release?: string | null } | { definitionJson: string };
  input: Uint8Array | null;
  encoding: Encoding;
  idempotencyKey: string | null;
  labels: Record<string, string> | null;
  /** Chosen before, where a start may be repeated. */
  runId?: string;
  /** The run that starts it. */
  parent?: { runId: string; nodeId: string; item?: number | null };
}

/** Runs of workflows. A run is data in Postgres that any master can advance; progress is a step guarded by its revision. */
export interface Runs {
  start(namespace: string, request: StartRun): Promise<{ runId: string; deduplicated: boolean }>;
  /** Starts a run that another one waits for. */
  startChild(
    namespaceId: number,
    child: Omit<StartRun, 'workflow' | 'labels'> & { workflowName: string; runId: string },
  ): Promise<{ runId: string; deduplicated: boolean }>;
  cancel(namespaceId: number, runId: string, reason: string): Promise<RunState>;
  /**
   * The next execution of an ended run: from these nodes, or steps of a durable function, and all that follows them; without any, from
   * what did not succeed.
   *
   * @throws Refusal RUN_NOT_FOUND, RUN_NOT_RETRYABLE, NODE_NOT_FOUND
   */
  retry(
    namespaceId: number,
    runId: string,
    fromNodeIds?: readonly string[],
  ): Promise<{ execution: number; nodeIds: string[] }>;
  /** Takes up the runs that have something to do. */
  poke(): void;
  stop(): Promise<void>;
}

export interface RunSinks {
  onReady(laneId: number): void;
  onStored(tasks: readonly NewTask[]): void;
  onChanged(): void;
  onRunEnded(runId: string): void;
  cancelTasks(namespaceId: number, taskIds: string[], reason: string): Promise<void>;
}

const MOST_TRIES = 5;

export function createRuns(
  env: EngineEnvironment,
  workflows: Workflows,
  lanes: LaneBook,
  blobs: Blobs,
  artifacts: Artifacts,
  counters: Counters,
  functions: FunctionRuns,
  sinks: RunSinks,
): Runs {
  const { pools, settings } = env;
  const values = createRunValues(env, blobs);
  const starter = createNodeStarter(env, workflows, lanes, artifacts, values, functions, blobs);
  const planner = createStepPlanner(env, starter, values);
  const loop = createRunLoop(env, createRunContexts(env, workflows), planner, counters, {
    onReady: sinks.onReady,
    onStored: sinks.onStored,
    onChanged: sinks.onChanged,
    onRunEnded: sinks.onRunEnded,
    cancelTasks: sinks.cancelTasks,
    async cancelRun(namespaceId, runId, reason) {
      await requestRunCancel(pools.api, namespaceId, runId, storableText(reason));
      loop.poke();
    },
    onFunctionAdvances: (due) => functions.advance(due),
  });
  const inserts = createCoalescer<NewRun, boolean | Refusal>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (run) => (run.input?.byteLength ?? 0) + 300 + 30 * run.nodeIds.length,
    inFlight: 2,
    run: (batch) =>
      bisect<NewRun, boolean | Refusal>(
        batch,
        async (part) => {
          const stored = await persist(() => insertRuns(pools.hot, part), env.random);
          return part.map((run) => stored.has(run.id));
        },
        (_, error) =>
          new Refusal(
            'invalid_argument',
            'RUN_NOT_STORABLE',
            `Postgres refuses a value of the run: ${(error as Error).message}`,
          ),
      ),
  });

  /** What many starts ask for at once is read once. Read after they asked: a version that was applied before is seen. */
  const reads = createCoalescer<{ namespaceId: number; name: string; version: number | null }, WorkflowRow | null>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    inFlight: 4,
    run(batch) {
      const found = new Map<string, Promise<WorkflowRow | null>>();
      return Promise.all(
        batch.map(({ namespaceId, name, version }) => {
          const key = `${namespaceId} ${version} ${name}`;
          const read = found.get(key) ?? readWorkflow(pools.api, namespaceId, name, version);
          found.set(key, read);
          return read;
        }),
      );
    },
  });

  const newest = createNewestFunctions();

  const start = async (namespace: string, request: StartRun) =>
    startIn(await lanes.namespaceId(namespace), namespace, request);

  async function startIn(
    namespaceId: number,
    namespace: string,
    request: StartRun,
  ): Promise<{ runId: string; deduplicated: boolean }> {
    if (request.input && request.input.byteLength > settings.maxInputBytes)
      throw new Refusal(
        'resource_exhausted',
        'INPUT_TOO_LARGE',
        `the input has ${request.input.byteLength} bytes; at most ${settings.maxInputBytes} are taken`,
      );
    const remembered = 'name' in request.workflow ? newest.of(namespaceId, request.workflow) : undefined;
    if (remembered) {
      const started = await functions.start(namespaceId, { ...request, workflow: remembered, isRemembered: true });
      if (started !== 'outdated') return started;
    }
    let workflow: WorkflowRow;
    if ('definitionJson' in request.workflow)
      workflow = (await workflows.apply(namespace, request.workflow.definitionJson)).workflow;
    else {
      const { name, version, release } = request.workflow;
      const found = release
        ? await readRelease(pools.api, namespaceId, name, release)
        : await reads.add({ namespaceId, name, version });
      if (!found || (version !== null && found.version !== version))
        throw notFound('workflow', release ? `${name} of release ${release}` : name);
      workflow = found;
      if (version === null && !release) newest.remember(namespaceId, workflow);
    }
    if (readFunctionForm(workflow.storedForm)) return functions.start(namespaceId, { ...request, workflow });
    const definition = await workflows.definitionOf(namespaceId, workflow.name, workflow.version);
    const runId = request.runId ?? env.ids.next();
    const idempotency = request.idempotencyKey
      ? {
          key: request.idempotencyKey,
          bodyHash: await sha256(
            new TextEncoder().encode(
              `${workflow.hash}\n${request.encoding}\n${request.input ? hex(request.input) : ''}`,
            ),
          ),
          ttlMs: settings.idempotencyTtlMs,
        }
      : null;
    const insert = async () => {
      const stored = await inserts.add({
        id: runId,
        namespaceId,
        workflowName: workflow.name,
        workflowVersion: workflow.version,
        nodeIds: definition.nodes.map((n) => n.id),
        input: request.input,
        encoding: request.encoding,
        labels: request.labels,
        idempotency,
        parent: request.parent ?? null,
      });
      if (stored instanceof Refusal) throw stored;
      return stored;
    };
    for (let tries = 0; !(await insert()) && idempotency; tries++) {
      const key = { namespaceId, scope: `run:${workflow.name}`, key: idempotency.key };
      // A key whose time is over is free, whether somebody has tidied up or not.
      await persist(() => freeExpiredKeys(pools.api, [key]), env.random);
      const [holder] = await lookUpKeys(pools.api, [key]);
      if (holder?.id === runId) break;
      if (holder) {
        if (!sameBytes(holder.bodyHash, idempotency.bodyHash)) throw keyConflict(idempotency.key, holder.id);
        return { runId: holder.id, deduplicated: true };
      }
      if (tries >= MOST_TRIES) throw new Refusal('unavailable', 'KEY_EXPIRED_MEANWHILE', 'try again');
    }
    sinks.onChanged();
    loop.poke();
    return { runId, deduplicated: false };
  }

  return {
    start,
    startChild: (namespaceId, { workflowName, ...child }) =>
      startIn(namespaceId, '', { ...child, labels: null, workflow: { name: workflowName, version: null } }),
    poke: loop.poke,
    async cancel(namespaceId, runId, reason) {
      const state = isId(runId)
        ? await requestRunCancel(pools.api, namespaceId, runId, storableText(reason || 'cancelled'))
        : null;
      if (!state) throw notFound('run', runId);
      if (state !== 'pending' && state !== 'running' && state !== 'waiting')
        throw new Refusal(
          'failed_precondition',
          'RUN_ENDED',
          `run ${runId} has already ${state === 'cancelled' ? 'been cancelled' : state}`,
        );
      loop.poke();
      return state;
    },
    async retry(namespaceId, runId, fromNodeIds = []) {
      for (;;) {
        const run = isId(runId) ? await readRun(pools.api, namespaceId, runId) : null;
        if (!run) throw notFound('run', runId);
        const mayRetry =
          run.state === 'failed' ||
          run.state === 'cancelled' ||
          (run.state === 'succeeded' && run.form === 'graph' && fromNodeIds.length > 0);
        if (!mayRetry)
          throw new Refusal(
            'failed_precondition',
            'RUN_NOT_RETRYABLE',
            `run ${runId} is ${run.state}; only failed and cancelled runs can be retried${run.state === 'succeeded' && run.form === 'graph' ? ', and others from the nodes that are named' : ''}`,
          );
        if (run.form === 'function') {
          const retried = await functions.retry(run, fromNodeIds);
          if (retried) return retried;
          continue;
        }
        const definition = await workflows.definitionOf(run.namespaceId, run.workflowName, run.workflowVersion);
        const { graph } = compileWorkflow(definition);
        const chosen = fromNodeIds.map((id) => {
          const node = graph.indexOf.get(id);
          if (node === undefined)
            throw new Refusal('invalid_argument', 'NODE_NOT_FOUND', `run ${runId} has no node ${JSON.stringify(id)}`);
          return node;
        });
        const states: (NodeState | undefined)[] = [];
        for (const row of (await readNodeStandings(pools.api, [runId])).get(runId)!)
          states[graph.indexOf.get(row.nodeId)!] = row.state;
        const plan = planRetryFrom(graph, states, chosen);
        const idsOf = (nodes: readonly number[]) => nodes.map((node) => graph.nodes[node]!.id);
        const again = new Set(plan.again);
        const kept = states.filter((_, node) => !again.has(node));
        const counts = { succeeded: kept.filter((state) => state === 'succeeded').length, ended: kept.length };
        if (await reopenRun(pools.api, runId, run.revision, idsOf(plan.again), idsOf(plan.whole), counts)) {
          sinks.onChanged();
          loop.poke();
          return { execution: run.execution + 1, nodeIds: idsOf(plan.again) };
        }
      }
    },
    stop: loop.stop,
  };
}
