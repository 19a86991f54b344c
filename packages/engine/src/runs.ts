import {
  compareIds,
  type Failure,
  fromStoredForm,
  type JsonValue,
  type NodeDefinition,
  type NodeState,
  notFound,
  type Problem,
  parseDefinitionJson,
  planRetry,
  planRun,
  Refusal,
  resolveInput,
  storableText,
  toStoredForm,
  type WorkflowDefinition,
} from '@baton/domain';
import {
  dropAdvances,
  dueAdvances,
  type Encoding,
  endedNodes,
  hex,
  insertRun,
  lookUpKeys,
  type NewTask,
  nodeOutputs,
  type RunNodeRow,
  type RunRow,
  type RunState,
  type RunStep,
  readRun,
  readRunNodes,
  readWorkflow,
  reopenRun,
  requestRunCancel,
  stepRun,
  storeWorkflow,
  type WorkflowRow,
} from '@baton/store';
import { sha256 } from './digest.ts';
import type { EngineEnvironment } from './environment.ts';
import type { LaneBook } from './lane-book.ts';
import type { Counters } from './metrics.ts';
import { persist } from './persist.ts';
import { keyConflict, laneKey, sameBytes, type TaskRequest } from './submit.ts';

export type ParsedWorkflow = { ok: true; definition: WorkflowDefinition } | { ok: false; problems: readonly Problem[] };

export interface StartRun {
  workflow: { name: string; version: number | null } | { definitionJson: string };
  input: Uint8Array | null;
  encoding: Encoding;
  idempotencyKey: string | null;
  labels: Record<string, string> | null;
}

/** Workflows and their runs. A run is data in Postgres that any master can advance; progress is a step guarded by its revision. */
export interface Runs {
  validate(definitionJson: string): ParsedWorkflow;
  apply(namespace: string, definitionJson: string): Promise<{ workflow: WorkflowRow; changed: boolean }>;
  definitionOf(namespaceId: number, name: string, version: number): Promise<WorkflowDefinition>;
  start(namespace: string, request: StartRun): Promise<{ runId: string; deduplicated: boolean }>;
  cancel(namespaceId: number, runId: string, reason: string): Promise<RunState>;
  retry(namespaceId: number, runId: string): Promise<{ execution: number; nodeIds: string[] }>;
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

/** @throws Refusal INVALID_WORKFLOW with every problem */
function parsed(definitionJson: string): WorkflowDefinition {
  const result = parseDefinitionJson(definitionJson);
  if (result.ok) return result.definition;
  const { problems } = result;
  throw new Refusal(
    'invalid_argument',
    'INVALID_WORKFLOW',
    problems
      .map((p) => `${p.path || 'file'}: ${p.message}`)
      .slice(0, 20)
      .join('\n'),
    {
      violations: problems.slice(0, 1000).map((p) => ({
        field: p.path,
        description: `${p.code}: ${p.message}${p.hint ? ` (${p.hint})` : ''}`,
      })),
    },
  );
}

export function createRuns(env: EngineEnvironment, lanes: LaneBook, counters: Counters, sinks: RunSinks): Runs {
  const { pools, settings } = env;
  const definitions = new Map<string, Promise<WorkflowDefinition>>();
  let advancing: Promise<void> | null = null;
  let again = false;
  let stopped = false;

  function definitionOf(namespaceId: number, name: string, version: number): Promise<WorkflowDefinition> {
    const key = JSON.stringify([namespaceId, name, version]);
    let known = definitions.get(key);
    if (!known) {
      known = readWorkflow(pools.api, namespaceId, name, version).then((row) => {
        if (!row) throw notFound('workflow', `${name} version ${version}`);
        return fromStoredForm(row.storedForm);
      });
      definitions.set(key, known);
      known.catch(() => definitions.delete(key));
      // Definitions of old versions are read again when they are wanted again.
      if (definitions.size > 500) definitions.delete(definitions.keys().next().value!);
    }
    return known;
  }

  async function apply(
    namespace: string,
    definitionJson: string,
  ): Promise<{ workflow: WorkflowRow; changed: boolean }> {
    const definition = parsed(definitionJson);
    const namespaceId = await lanes.namespaceId(namespace);
    const storedForm = toStoredForm(definition);
    const hash = hex(await sha256(new TextEncoder().encode(storedForm)));
    for (;;) {
      const newest = await readWorkflow(pools.api, namespaceId, definition.name, null);
      if (newest !== null && newest.hash === hash) return { workflow: newest, changed: false };
      const stored = await persist(
        () =>
          storeWorkflow(pools.api, {
            namespaceId,
            name: definition.name,
            hash,
            description: definition.description ?? '',
            definition: definitionJson,
            storedForm,
          }),
        env.random,
      );
      if (stored) return { workflow: stored, changed: true };
    }
  }

  async function start(namespace: string, request: StartRun): Promise<{ runId: string; deduplicated: boolean }> {
    if (request.input && request.input.byteLength > settings.maxInputBytes)
      throw new Refusal(
        'resource_exhausted',
        'INPUT_TOO_LARGE',
        `the input has ${request.input.byteLength} bytes; at most ${settings.maxInputBytes} are taken`,
      );
    const namespaceId = await lanes.namespaceId(namespace);
    let workflow: WorkflowRow;
    if ('definitionJson' in request.workflow)
      workflow = (await apply(namespace, request.workflow.definitionJson)).workflow;
    else {
      const found = await readWorkflow(pools.api, namespaceId, request.workflow.name, request.workflow.version);
      if (!found) throw notFound('workflow', request.workflow.name);
      workflow = found;
    }
    const definition = await definitionOf(namespaceId, workflow.name, workflow.version);
    const runId = env.ids.next();
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
    const inserted = await persist(
      () =>
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
        }),
      env.random,
    );
    if (!inserted && idempotency) {
      const [holder] = await lookUpKeys(pools.api, [
        { namespaceId, scope: `run:${workflow.name}`, key: idempotency.key },
      ]);
      if (holder && holder.id !== runId) {
        if (!sameBytes(holder.bodyHash, idempotency.bodyHash)) throw keyConflict(idempotency.key, holder.id);
        return { runId: holder.id, deduplicated: true };
      }
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
      const definition = await definitionOf(run.namespaceId, run.workflowName, run.workflowVersion);
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

  async function planStep(
    run: RunRow,
    definition: WorkflowDefinition,
    advanceIds: string[],
  ): Promise<{ write: RunStep; cancel: string[] }> {
    const rows = await readRunNodes(pools.api, run.id, false);
    const ends = new Map((await endedNodes(pools.api, run.id)).map((e) => [e.nodeId, e]));
    const states = new Map<string, NodeState>(rows.map((r) => [r.nodeId, ends.get(r.nodeId)?.state ?? r.state]));
    const changes = new Map<string, RunStep['nodes'][number]>();
    for (const [nodeId, end] of ends)
      changes.set(nodeId, {
        nodeId,
        state: end.state,
        taskId: null,
        attempts: end.attempts,
        workerId: end.workerId,
        outputHash: end.outputHash,
        failure: end.failure,
        endedAtMs: end.endedAtMs,
      });
    const cancelled = run.cancelReason !== null;
    if (cancelled)
      for (const [nodeId, state] of states)
        if (state === 'pending') {
          states.set(nodeId, 'skipped');
          changes.set(nodeId, bare(nodeId, 'skipped'));
        }

    const tasks: NewTask[] = [];
    let plan = planRun(definition, states);
    if (plan.ready.length > 0) {
      const outputs = await outputsFor(run.id, definition, plan.ready, states);
      for (const nodeId of plan.ready) {
        const node = definition.nodes.find((n) => n.id === nodeId)!;
        const built = await buildTask(run, node, outputs);
        if ('failure' in built) {
          states.set(nodeId, 'failed');
          changes.set(nodeId, { ...bare(nodeId, 'failed'), failure: built.failure, endedAtMs: env.now() });
        } else {
          states.set(nodeId, 'running');
          tasks.push(built.task);
          changes.set(nodeId, { ...bare(nodeId, 'running'), taskId: built.task.id });
        }
      }
      // A node whose input could not be made has failed: what needs it is planned again.
      if ([...changes.values()].some((c) => c.failure)) plan = planRun(definition, states);
    }
    for (const nodeId of plan.skip) {
      states.set(nodeId, 'skipped');
      changes.set(nodeId, bare(nodeId, 'skipped'));
    }

    let state: RunState = plan.runState;
    const succeeded = [...states.values()].filter((s) => s === 'succeeded').length;
    if (cancelled && state === 'succeeded' && succeeded < states.size) state = 'cancelled';
    const failed = plan.failed[0] ?? null;
    const failure =
      failed === null ? null : (changes.get(failed)?.failure ?? rows.find((r) => r.nodeId === failed)?.failure ?? null);
    const running = rows.filter((r) => cancelled && states.get(r.nodeId) === 'running' && r.taskId !== null);
    return {
      cancel: running.map((r) => r.taskId!),
      write: {
        runId: run.id,
        revision: run.revision,
        state,
        nodesSucceeded: succeeded,
        failedNodeId: failed,
        failureMessage:
          failed === null
            ? null
            : storableText(`node ${JSON.stringify(failed)} failed: ${failure?.message ?? 'no reason given'}`),
        nodes: [...changes.values()],
        tasks: tasks.sort((a, b) => compareIds(a.id, b.id)),
        advanceIds,
      },
    };
  }

  /** Outputs that inputs of the starting nodes may name. Read only if any of them names one. */
  async function outputsFor(
    runId: string,
    definition: WorkflowDefinition,
    starting: readonly string[],
    states: ReadonlyMap<string, NodeState>,
  ): Promise<ReadonlyMap<string, JsonValue>> {
    const wanted = new Set(starting);
    const names = definition.nodes
      .filter((n) => wanted.has(n.id))
      .some((n) => JSON.stringify(n.input).includes('"$from"'));
    if (!names) return new Map();
    const done = [...states].filter(([, state]) => state === 'succeeded').map(([id]) => id);
    const outputs = await nodeOutputs(pools.api, runId, done);
    return new Map([...outputs].map(([id, { output, encoding }]) => [id, decode(output, encoding)]));
  }

  async function buildTask(
    run: RunRow,
    node: NodeDefinition,
    outputs: ReadonlyMap<string, JsonValue>,
  ): Promise<{ task: NewTask } | { failure: Failure }> {
    const refuse = (message: string) => ({
      failure: { type: 'EVALUATION_ERROR' as const, message: storableText(message), nonRetryable: true },
    });
    const resolved = resolveInput(node.input, decode(run.input, run.inputEncoding), outputs);
    if (!resolved.ok)
      return refuse(`its input could not be made: ${resolved.unresolved.map((u) => u.message).join('; ')}`);
    const input = new TextEncoder().encode(JSON.stringify(resolved.value));
    if (input.byteLength > settings.maxInputBytes)
      return refuse(`its input would have ${input.byteLength} bytes; at most ${settings.maxInputBytes} are taken`);
    const request: TaskRequest = {
      kind: node.kind,
      queue: node.queue,
      taskClass: node.taskClass,
      tags: node.tags,
      executor:
        node.executor.type === 'grpc'
          ? { type: 'grpc', address: node.executor.address, method: node.executor.method }
          : { type: 'function' },
    };
    const lane = await lanes.laneFor(laneKey(run.namespaceId, request));
    const executor =
      node.executor.type === 'grpc' ? { address: node.executor.address, method: node.executor.method } : undefined;
    return {
      task: {
        id: env.ids.next(),
        namespaceId: run.namespaceId,
        routeId: lane.routeId,
        laneId: lane.id,
        priority: node.priority,
        maxAttempts: node.retry.maxAttempts,
        startToCloseMs: node.timeoutMs,
        encoding: 1,
        input,
        dueAtMs: null,
        idempotency: null,
        extra: { retry: node.retry, nodeId: node.id, runId: run.id, ...(executor && { executor }) },
      },
    };
  }

  async function advanceAll(): Promise<void> {
    do {
      again = false;
      const due = await dueAdvances(pools.api, ADVANCES);
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
      if (due.length > 0) again = again || due.reduce((n, d) => n + d.advanceIds.length, 0) >= ADVANCES;
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
    validate: (definitionJson) => parseDefinitionJson(definitionJson),
    apply,
    definitionOf,
    start,
    poke,
    async cancel(namespaceId, runId, reason) {
      const state = await requestRunCancel(pools.api, namespaceId, runId, storableText(reason || 'cancelled'));
      if (!state) throw notFound('run', runId);
      if (state !== 'pending' && state !== 'running')
        throw new Refusal(
          'failed_precondition',
          'RUN_ENDED',
          `run ${runId} has already ${state === 'cancelled' ? 'been cancelled' : state}`,
        );
      poke();
      return state;
    },
    async retry(namespaceId, runId) {
      for (;;) {
        const run = await readRun(pools.api, namespaceId, runId);
        if (!run) throw notFound('run', runId);
        if (run.state !== 'failed' && run.state !== 'cancelled')
          throw new Refusal(
            'failed_precondition',
            'RUN_NOT_RETRYABLE',
            `run ${runId} is ${run.state}; only failed and cancelled runs can be retried`,
          );
        const definition = await definitionOf(run.namespaceId, run.workflowName, run.workflowVersion);
        const rows = await readRunNodes(pools.api, runId, false);
        const nodeIds = planRetry(definition, new Map(rows.map((r: RunNodeRow) => [r.nodeId, r.state as NodeState])));
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

const bare = (nodeId: string, state: NodeState): RunStep['nodes'][number] => ({
  nodeId,
  state,
  taskId: null,
  attempts: 0,
  workerId: null,
  outputHash: null,
  failure: null,
  endedAtMs: null,
});

/** Bytes of a payload as a JSON value; bytes of the user's own as base64 text. */
function decode(payload: Uint8Array | null, encoding: Encoding): JsonValue {
  if (!payload || payload.byteLength === 0) return null;
  if (encoding === 1) return JSON.parse(new TextDecoder().decode(payload)) as JsonValue;
  return btoa(String.fromCharCode(...payload));
}
