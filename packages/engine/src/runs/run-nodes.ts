import {
  canonicalJson,
  type Failure,
  type JsonValue,
  type NodeDefinition,
  Refusal,
  resolveInput,
  resolveItems,
  resolveWhen,
  storableText,
  templateOfNode,
} from '@baton/domain';
import {
  type ArtifactInput,
  lookUpResults,
  type NewChildRun,
  type NewTask,
  readRuns,
  readWorkflow,
  runAncestry,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { Artifacts, ArtifactsWanted } from '../data/artifacts.ts';
import type { Blobs } from '../data/blobs.ts';
import { sha256 } from '../data/digest.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import { readFunctionForm } from '../functions/function-definition.ts';
import type { FunctionRuns } from '../functions/function-runs.ts';
import { laneKey } from '../tasks/submit.ts';
import { storedExecutor, type TaskExecutor } from '../tasks/task-executor.ts';
import { artifactsOfNode } from './node-artifacts.ts';
import type { NamedBlob, RunContext } from './run-context.ts';
import type { RunValues } from './run-values.ts';
import type { Workflows } from './workflows.ts';

/** What becomes of a node, or an item of one, that starts. */
export type Started =
  | { task: NewTask; cache: { kind: string; keyHash: Uint8Array; ttlMs: number } | null }
  | { child: NewChildRun }
  /** A durable function that was started already: by its key the same one for everybody. */
  | { startedRunId: string; hasEnded: boolean }
  | { cached: { taskId: string; workerId: number | null; outputHash: string | null } }
  | { failure: Failure };

/** A run within a run within a run: so deep and no deeper. */
const MAX_DEPTH = 32;

/** Makes what nodes need to start. Writes nothing but large inputs, as blobs. */
export interface NodeStarter {
  /** Whether `when` says that it runs. The outputs that it reads are at hand. */
  isWanted(context: RunContext, node: number): { ok: true; value: boolean } | { ok: false; failure: Failure };
  itemsOf(
    context: RunContext,
    node: number,
  ): { ok: true; value: readonly JsonValue[] } | { ok: false; failure: Failure };
  start(context: RunContext, node: number, item: { index: number; item: JsonValue } | null): Promise<Started>;
}

export const evaluationFailure = (message: string): Failure => ({
  type: 'EVALUATION_ERROR',
  message: storableText(message),
  nonRetryable: true,
});

function executorOf({ executor }: NodeDefinition): TaskExecutor {
  if (executor.type === 'grpc') return { type: 'grpc', address: executor.address, method: executor.method };
  return 'config' in executor ? executor : { type: 'function' };
}

/** A kind names a function. Of a program it is only the node's id: what is run, and in what, is a part of what makes results the same. */
function cacheKey({ executor, environment }: NodeDefinition, key: JsonValue): JsonValue {
  if (!('config' in executor) && !environment) return key;
  return { key, executor: executor as unknown as JsonValue, environment: (environment ?? null) as JsonValue };
}

/** Without a key of its own, files are a part of what makes a result the same. */
function withFiles(input: JsonValue, wanted: ArtifactsWanted | undefined): JsonValue {
  if (!wanted) return input;
  return { input, artifacts: Object.entries(wanted).map(([name, { sha256 }]) => [name, sha256]) };
}

/** The blob that the whole input is: handed on as it is, by no master read. */
function wholeBlob(context: RunContext, node: NodeDefinition): NamedBlob | undefined {
  if (context.blobs.size === 0) return undefined;
  const of = templateOfNode(node.input);
  const index = of === undefined ? undefined : context.workflow.graph.indexOf.get(of);
  return index === undefined ? undefined : context.blobs.get(index);
}

export function createNodeStarter(
  env: EngineEnvironment,
  workflows: Workflows,
  lanes: LaneBook,
  artifacts: Artifacts,
  values: RunValues,
  functions: FunctionRuns,
  blobs: Blobs,
): NodeStarter {
  const { pools, settings } = env;
  const lookUps = createCoalescer<{ namespaceId: number; kind: string; keyHash: Uint8Array; ttlMs: number }, Hit>({
    endOfTurn: env.endOfTurn,
    maxItems: 1_000,
    run: (keys) => lookUpResults(pools.api, keys),
  });
  type Hit = Awaited<ReturnType<typeof lookUpResults>>[number];

  function requestOf(node: NodeDefinition) {
    return {
      kind: node.kind,
      queue: node.queue,
      taskClass: node.taskClass,
      tags: node.tags,
      executor: executorOf(node),
      ...(node.resources && { resources: node.resources }),
      ...(node.requires && { requirements: node.requires }),
      ...(node.scheduleToStartMs !== undefined && { scheduleToStartMs: node.scheduleToStartMs }),
      ...(node.progressTimeoutMs !== undefined && { progressTimeoutMs: node.progressTimeoutMs }),
    };
  }

  async function childOf(
    context: RunContext,
    node: NodeDefinition,
    bytes: Uint8Array,
    item: number | null,
  ): Promise<Started> {
    if (node.executor.type !== 'workflow') throw new RangeError('not a node that runs a workflow');
    const { name, version } = node.executor;
    const { run } = context;
    const found = await readWorkflow(pools.api, run.namespaceId, name, version);
    if (!found) {
      const what = version === null ? name : `${name} version ${version}`;
      return { failure: evaluationFailure(`there is no workflow ${what}`) };
    }
    if (run.parentRunId !== null) {
      const above = await runAncestry(pools.api, run.id, MAX_DEPTH + 1);
      if (above.length > MAX_DEPTH) {
        const way = [...above.slice(-5), name].map((each) => JSON.stringify(each)).join(' → ');
        return { failure: evaluationFailure(`runs within runs go ${MAX_DEPTH} deep, no deeper: … → ${way}`) };
      }
    }
    if (bytes.byteLength > settings.maxInputBytes)
      return {
        failure: evaluationFailure(
          `the input of the run would have ${bytes.byteLength} bytes; at most ${settings.maxInputBytes} are taken`,
        ),
      };
    if (readFunctionForm(found.storedForm)) {
      const { runId, deduplicated } = await functions.start(run.namespaceId, {
        workflow: found,
        input: bytes,
        encoding: 1,
        idempotencyKey: `${run.id}/${run.execution}${item === null ? '' : `#${item}`}/${node.id}`,
        labels: node.labels ?? null,
        parent: { runId: run.id, nodeId: node.id, item },
      });
      // It was started by a step that was not written: it may have ended before anybody waited for it.
      const earlier = deduplicated ? (await readRuns(pools.api, run.namespaceId, [runId]))[0] : undefined;
      return { startedRunId: runId, hasEnded: earlier?.endedAt != null };
    }
    const definition = await workflows.definitionOf(run.namespaceId, found.name, found.version);
    return {
      child: {
        id: env.ids.next(),
        workflowName: found.name,
        workflowVersion: found.version,
        nodeIds: definition.nodes.map((n) => n.id),
        input: bytes,
        encoding: 1,
        labels: node.labels ?? null,
        parentNodeId: node.id,
        parentItem: item,
      },
    };
  }

  return {
    isWanted(context, index) {
      const node = context.workflow.definition.nodes[index]!;
      if (node.when === undefined) return { ok: true, value: true };
      const { workflow } = context;
      const unreadable = values.unreadable(context, workflow.whenPartsOf(index));
      if (unreadable !== null) return { ok: false, failure: evaluationFailure(unreadable) };
      const answer = resolveWhen(
        node.when,
        values.expressionContext(context, workflow.readsOf(index), workflow.whenPartsOf(index)),
      );
      return answer.ok ? answer : { ok: false, failure: evaluationFailure(answer.message) };
    },

    itemsOf(context, index) {
      const reads = context.workflow.readsOf(index);
      const parts = context.workflow.partsOf(index);
      const unreadable = values.unreadable(context, parts);
      if (unreadable !== null) return { ok: false, failure: evaluationFailure(unreadable) };
      const answer = resolveItems(
        context.workflow.definition.nodes[index]!.forEach!,
        values.outputsOf(context, reads, parts),
        values.expressionContext(context, reads, parts),
      );
      return answer.ok ? answer : { ok: false, failure: evaluationFailure(answer.message) };
    },

    async start(context, index, item) {
      const node = context.workflow.definition.nodes[index]!;
      const { run } = context;
      const reads = context.workflow.readsOf(index);
      const parts = context.workflow.partsOf(index);
      const unreadable = values.unreadable(context, parts);
      if (unreadable !== null) return { failure: evaluationFailure(unreadable) };
      const outputs = values.outputsOf(context, reads, parts);
      const scope = values.expressionContext(
        context,
        reads,
        parts,
        item ? { ...item, isMatrix: 'matrix' in node.forEach! } : undefined,
      );
      const runInput = values.inputOf(context);
      const resolved = resolveInput(node.input, runInput, outputs, scope);
      if (!resolved.ok)
        return {
          failure: evaluationFailure(
            `its input could not be made: ${resolved.unresolved.map((u) => u.message).join('; ')}`,
          ),
        };
      const input = new TextEncoder().encode(JSON.stringify(resolved.value));
      if (node.executor.type === 'workflow') return childOf(context, node, input, item?.index ?? null);
      if (input.byteLength > settings.maxBlobBytes)
        return {
          failure: evaluationFailure(
            `its input would have ${input.byteLength} bytes; at most ${settings.maxBlobBytes} are taken`,
          ),
        };

      let wanted: ArtifactsWanted | undefined;
      if (node.artifacts) {
        const found = await artifactsOfNode(env, context, node, { runInput, outputs, expressions: scope });
        if (!found.ok) return { failure: evaluationFailure(found.message) };
        wanted = found.value;
      }

      let cache: { kind: string; keyHash: Uint8Array; ttlMs: number } | null = null;
      if (node.cache) {
        let key = withFiles(resolved.value, wanted);
        if (node.cache.key !== undefined) {
          const made = resolveInput(node.cache.key, runInput, outputs, scope);
          if (!made.ok)
            return { failure: evaluationFailure(`its cache key could not be made: ${made.unresolved[0]!.message}`) };
          key = made.value;
        }
        cache = {
          kind: node.kind,
          keyHash: await sha256(new TextEncoder().encode(canonicalJson(cacheKey(node, key)))),
          ttlMs: node.cache.ttlMs,
        };
        const hit = await lookUps.add({ namespaceId: run.namespaceId, ...cache });
        if (hit) return { cached: hit };
      }

      const request = requestOf(node);
      const stored = storedExecutor(request.executor, node.environment);
      const whole = wholeBlob(context, node);
      if (whole && !(await blobs.use(run.namespaceId, whole.sha256)))
        return { failure: evaluationFailure(`the blob ${whole.sha256} that is to be its input is gone`) };
      const placed = whole ? { bytes: null, blob: whole.sha256 } : await values.place(run.namespaceId, input);
      const inputBlob = placed.blob ?? undefined;
      const taskId = env.ids.next();
      let files: ArtifactInput[] | undefined;
      if (wanted)
        try {
          files = await artifacts.admit(run.namespaceId, wanted);
          await artifacts.save({ taskId, namespaceId: run.namespaceId, inputs: files });
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
          return { failure: evaluationFailure(`${error.reason}: ${error.message}`) };
        }
      const laneOf = laneKey(run.namespaceId, { ...request, inputBlob, ...(wanted && { artifacts: wanted }) });
      const lane = files ? await artifacts.laneFor(laneOf, files) : await lanes.laneFor(laneOf);
      return {
        cache,
        task: {
          id: taskId,
          namespaceId: run.namespaceId,
          routeId: lane.routeId,
          laneId: lane.id,
          priority: node.priority,
          maxAttempts: node.retry.maxAttempts,
          startToCloseMs: node.timeoutMs,
          encoding: whole?.encoding ?? 1,
          input: placed.bytes,
          dueAtMs: null,
          idempotency: null,
          extra: {
            retry: node.retry,
            nodeId: node.id,
            runId: run.id,
            ...(item && { item: item.index }),
            ...(node.labels && { labels: node.labels }),
            ...(stored && { executor: stored }),
            ...(node.scheduleToStartMs !== undefined && { scheduleToStartMs: node.scheduleToStartMs }),
            ...(node.progressTimeoutMs !== undefined && { progressTimeoutMs: node.progressTimeoutMs }),
            ...(inputBlob && { inputBlob }),
          },
        },
      };
    },
  };
}
