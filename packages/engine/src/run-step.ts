import {
  compareIds,
  type Failure,
  type JsonValue,
  type NodeDefinition,
  type NodeState,
  planRun,
  resolveInput,
  storableText,
  type WorkflowDefinition,
} from '@baton/domain';
import {
  type Encoding,
  endedNodes,
  type NewTask,
  type NodeOutput,
  nodeOutputs,
  type RunRow,
  type RunState,
  type RunStep,
  readRunNodes,
} from '@baton/store';
import type { EngineEnvironment } from './environment.ts';
import type { LaneBook } from './lane-book.ts';
import { laneKey, type TaskRequest } from './submit.ts';

/** What one step of a run is to write, and the tasks that a cancelled run still has running. */
export interface PlannedStep {
  write: RunStep;
  cancel: string[];
}

/** Plans one step of a run from what is in Postgres now. Writes nothing; the step is guarded by the revision it was read at. */
export function createStepPlanner(
  env: EngineEnvironment,
  lanes: LaneBook,
): (run: RunRow, definition: WorkflowDefinition, advanceIds: string[]) => Promise<PlannedStep> {
  const { pools, settings } = env;

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
    return new Map([...outputs].map(([id, output]) => [id, outputValue(output)]));
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

  return planStep;
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

/** What an input sees of an output. Of a blob: what names it, in the form that clients know; its bytes would be too many. */
function outputValue({ output, encoding, blob }: NodeOutput): JsonValue {
  if (blob) return { __baton: 'blob', ...blob, encoding: encoding === 1 ? 'json' : 'bytes' };
  return decode(output, encoding);
}

/** Bytes of a payload as a JSON value; bytes of the user's own as base64 text. */
function decode(payload: Uint8Array | null, encoding: Encoding): JsonValue {
  if (!payload || payload.byteLength === 0) return null;
  if (encoding === 1) return JSON.parse(new TextDecoder().decode(payload)) as JsonValue;
  return btoa(String.fromCharCode(...payload));
}
