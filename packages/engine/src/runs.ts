import { isId, type NodeState, notFound, planRetry, Refusal, storableText } from '@baton/domain';
import {
  dropAdvances,
  dueAdvances,
  type Encoding,
  freeExpiredKeys,
  hex,
  insertRun,
  lookUpKeys,
  type RunState,
  readRun,
  readRunFacts,
  readRunNodes,
  readWorkflow,
  reopenRun,
  requestRunCancel,
  stepRun,
  type WorkflowRow,
} from '@baton/store';
import { sha256 } from './digest.ts';
import type { EngineEnvironment } from './environment.ts';
import { readFunctionForm } from './function-definition.ts';
import type { FunctionRuns } from './function-runs.ts';
import type { LaneBook } from './lane-book.ts';
import type { Counters } from './metrics.ts';
import { persist } from './persist.ts';
import { createStepPlanner } from './run-step.ts';
import { keyConflict, sameBytes } from './submit.ts';
import type { Workflows } from './workflows.ts';

export interface StartRun {
  workflow: { name: string; version: number | null } | { definitionJson: string };
  input: Uint8Array | null;
  encoding: Encoding;
  idempotencyKey: string | null;
  labels: Record<string, string> | null;
  /** Chosen before, where a start may be repeated. */
  runId?: string;
  /** The run that starts it. */
  parent?: { runId: string; nodeId: string };
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
  /** @param fromNodeIds of a durable function: steps to go back to; default: what failed */
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
  onChanged(): void;
  cancelTasks(namespaceId: number, taskIds: string[], reason: string): Promise<void>;
}

const ADVANCES = 200;
const MOST_TRIES = 5;

export function createRuns(
  env: EngineEnvironment,
  workflows: Workflows,
  lanes: LaneBook,
  counters: Counters,
  functions: FunctionRuns,
  sinks: RunSinks,
): Runs {
  const { pools, settings } = env;
  const planStep = createStepPlanner(env, lanes);
  let advancing: Promise<void> | null = null;
  let again = false;
  let stopped = false;

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
    let workflow: WorkflowRow;
    if ('definitionJson' in request.workflow)
      workflow = (await workflows.apply(namespace, request.workflow.definitionJson)).workflow;
    else {
      const found = await readWorkflow(pools.api, namespaceId, request.workflow.name, request.workflow.version);
      if (!found) throw notFound('workflow', request.workflow.name);
      workflow = found;
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
    const insert = () =>
      insertRun(pools.api, {
        id: runId,
        namespaceId,
        workflowName: workflow.name,
        workflowVersion: workflow.version,
        nodeIds: definition.nodes.map((n) => n.id),
        input: request.input,
        encoding: request.encoding,
        labels: request.labels,
        idempotency,
      });
    for (let tries = 0; !(await persist(insert, env.random)) && idempotency; tries++) {
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
    poke();
    return { runId, deduplicated: false };
  }

  /** One step: read, plan, write. Repeated when another master was faster. */
  async function advance(runId: string, advanceIds: string[]): Promise<void> {
    for (let tries = 0; tries < 20 && !stopped; tries++) {
      const run = await readRun(pools.api, null, runId);
      if (!run || (run.state !== 'pending' && run.state !== 'running')) {
        await dropAdvances(pools.api, advanceIds);
        return;
      }
      const definition = await workflows.definitionOf(run.namespaceId, run.workflowName, run.workflowVersion);
      const step = await planStep(run, definition, advanceIds);
      if (await persist(() => stepRun(pools.hot, step.write), env.random)) {
        counters.add('baton_run_steps_total');
        for (const task of step.write.tasks) sinks.onReady(task.laneId);
        if (step.cancel.length > 0)
          await sinks.cancelTasks(run.namespaceId, step.cancel, run.cancelReason ?? 'the run was cancelled');
        sinks.onChanged();
        if (step.write.state !== 'pending' && step.write.state !== 'running')
          env.log.info('run ended', { run_id: runId, state: step.write.state, workflow: run.workflowName });
        return;
      }
      counters.add('baton_run_conflicts_total');
    }
  }

  async function advanceAll(): Promise<void> {
    do {
      again = false;
      const all = await dueAdvances(pools.api, ADVANCES);
      await functions
        .advance(all.filter((d) => d.isFunction))
        .catch((error) => env.log.error('advancing functions failed', { error: String(error) }));
      const due = all.filter((d) => !d.isFunction);
      // Runs do not touch each other; a few at once keeps one slow run from holding up the rest.
      for (let i = 0; i < due.length; i += 4)
        await Promise.all(
          due
            .slice(i, i + 4)
            .map(({ runId, advanceIds }) =>
              advance(runId, advanceIds).catch((error) =>
                env.log.error('advancing a run failed', { run_id: runId, error: String(error) }),
              ),
            ),
        );
      if (all.length > 0) again = again || all.reduce((n, d) => n + d.advanceIds.length, 0) >= ADVANCES;
    } while (again && !stopped);
  }

  function poke(): void {
    if (stopped) return;
    if (advancing) {
      again = true;
      return;
    }
    advancing = advanceAll()
      .catch((error) => env.log.warn('runs could not be advanced', { error: String(error) }))
      .finally(() => {
        advancing = null;
        if (again) poke();
      });
  }

  return {
    start,
    startChild: (namespaceId, { workflowName, ...child }) =>
      startIn(namespaceId, '', { ...child, labels: null, workflow: { name: workflowName, version: null } }),
    poke,
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
      poke();
      return state;
    },
    async retry(namespaceId, runId, fromNodeIds = []) {
      for (;;) {
        const run = isId(runId) ? await readRun(pools.api, namespaceId, runId) : null;
        if (!run) throw notFound('run', runId);
        if (run.state !== 'failed' && run.state !== 'cancelled')
          throw new Refusal(
            'failed_precondition',
            'RUN_NOT_RETRYABLE',
            `run ${runId} is ${run.state}; only failed and cancelled runs can be retried`,
          );
        if ((await readRunFacts(pools.api, runId))?.form === 'function') {
          const retried = await functions.retry(run, fromNodeIds);
          if (retried) return retried;
          continue;
        }
        const definition = await workflows.definitionOf(run.namespaceId, run.workflowName, run.workflowVersion);
        const rows = await readRunNodes(pools.api, runId, false);
        const nodeIds = planRetry(definition, new Map(rows.map((r) => [r.nodeId, r.state as NodeState])));
        if (await reopenRun(pools.api, runId, run.revision, nodeIds)) {
          sinks.onChanged();
          poke();
          return { execution: run.execution + 1, nodeIds };
        }
      }
    },
    async stop() {
      stopped = true;
      await advancing;
    },
  };
}
