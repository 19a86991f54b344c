import {
  PayloadFormat,
  type RunNode,
  RunNodeSchema,
  RunSchema,
  RunState,
  type Workflow,
  WorkflowSchema,
  type WorkflowService,
} from '@baton/contract';
import { isId, notFound, topologicalWaves } from '@baton/domain';
import type { ClientEngine, EventHub } from '@baton/engine';
import {
  listRuns,
  listWorkflows,
  type RunNodeRow,
  type RunRow,
  readRun,
  readRunFacts,
  readRunNodes,
  readWorkflow,
  type WorkflowRow,
} from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { functionHandlers, functionRun } from './function-handlers.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from './options.ts';
import { decodePageToken, encodePageToken } from './page-token.ts';
import { decodePayload, inputPayload, outputPayload } from './payloads.ts';
import { failureMessage } from './task-messages.ts';
import { nodeStates, runStates, wordOf } from './words.ts';

const DEFAULT_PAGE = 50;
const LOOK_AGAIN_MS = 1_000;

/** @param hub wakes watchers; without it (at the edge) they look by themselves */
export function workflowService(
  engine: ClientEngine,
  hub: EventHub | null,
  options: ApiOptions,
): ServiceImpl<typeof WorkflowService> {
  const { runs, workflows, lanes, env } = engine;
  const { api } = env.pools;
  const idOf = (namespace: string) => lanes.knownNamespaceId(namespace || 'default');

  async function runMessage(namespace: string, runId: string, format: PayloadFormat, outputs: boolean) {
    const namespaceId = await idOf(namespace);
    const row = isId(runId) ? await readRun(api, namespaceId, runId) : null;
    if (!row) throw notFound('run', runId);
    const facts = await readRunFacts(api, runId);
    if (facts?.form === 'function') {
      const message = create(RunSchema, {
        ...runHead(row, namespace || 'default', format),
        ...(await functionRun(api, row, facts, format)),
      });
      return { row, message };
    }
    const nodes = await readRunNodes(api, runId, outputs && format !== PayloadFormat.NONE);
    const definition = await workflows.definitionOf(namespaceId, row.workflowName, row.workflowVersion);
    const needs = new Map(definition.nodes.map((n) => [n.id, n.needs]));
    return {
      row,
      message: create(RunSchema, {
        ...runHead(row, namespace || 'default', format),
        nodes: nodes.map((n) => nodeMessage(n, needs.get(n.nodeId) ?? [], format)),
      }),
    };
  }

  return {
    async validateWorkflow(request) {
      const parsed = workflows.validate(request.definitionJson);
      if (parsed.ok) return { nodeIds: topologicalWaves(parsed.definition).flat() };
      return {
        problems: parsed.problems.map((p) => ({ path: p.path, code: p.code, message: p.message, hint: p.hint ?? '' })),
      };
    },

    async applyWorkflow(request) {
      const { workflow, changed } = await workflows.apply(request.namespace || 'default', request.definitionJson);
      const definition = await workflows.definitionOf(await idOf(request.namespace), workflow.name, workflow.version);
      return {
        workflow: workflowMessage(
          workflow,
          definition.nodes.map((n) => n.id),
        ),
        changed,
      };
    },

    async getWorkflow(request) {
      const namespaceId = await idOf(request.namespace);
      const row = await readWorkflow(api, namespaceId, request.name, request.version || null);
      if (!row) throw notFound('workflow', request.name);
      const definition = await workflows.definitionOf(namespaceId, row.name, row.version);
      return {
        workflow: {
          ...workflowMessage(
            row,
            definition.nodes.map((n) => n.id),
          ),
          definitionJson: row.definition,
        },
      };
    },

    async listWorkflows(request) {
      const namespace = request.namespace || 'default';
      const list = JSON.stringify(['workflows', namespace]);
      const limit = request.pageSize || DEFAULT_PAGE;
      const rows = await listWorkflows(
        api,
        await idOf(namespace),
        decodePageToken(list, request.pageToken) ?? '',
        limit + 1,
      );
      return {
        workflows: rows.slice(0, limit).map((row) => workflowMessage(row, [])),
        nextPageToken: rows.length > limit ? encodePageToken(list, rows[limit - 1]!.name) : '',
      };
    },

    async startRun(request) {
      const { bytes, encoding } = decodePayload(request.payload, '');
      const workflow =
        request.workflow.case === 'definitionJson'
          ? { definitionJson: request.workflow.value }
          : { name: request.workflow.value ?? '', version: request.version || null };
      return runs.start(request.namespace || 'default', {
        workflow,
        input: bytes,
        encoding,
        idempotencyKey: request.idempotencyKey || null,
        labels: Object.keys(request.labels).length > 0 ? request.labels : null,
      });
    },

    async getRun(request) {
      return { run: (await runMessage(request.namespace, request.runId, request.format, true)).message };
    },

    async listRuns(request) {
      const namespace = request.namespace || 'default';
      const states = request.states
        .filter((s) => s !== RunState.UNSPECIFIED)
        .map((s) => wordOf(runStates, s as never)!);
      const list = JSON.stringify(['runs', namespace, [...states].sort(), request.workflowName]);
      const limit = request.pageSize || DEFAULT_PAGE;
      const rows = await listRuns(api, {
        namespaceId: await idOf(namespace),
        states,
        workflowName: request.workflowName || null,
        before: decodePageToken(list, request.pageToken, isId),
        limit: limit + 1,
      });
      return {
        runs: rows.slice(0, limit).map((row) => create(RunSchema, runHead(row, namespace, PayloadFormat.NONE))),
        nextPageToken: rows.length > limit ? encodePageToken(list, rows[limit - 1]!.id) : '',
      };
    },

    async *watchRun(request, context) {
      const abort = eitherAborts(context.signal, options.closing);
      let changed = true;
      let wake: (() => void) | null = null;
      // A lease or a retry of a node's task is a change of the run as people see it.
      const stop = hub?.listen((batch) => {
        if (batch.events.some((event) => event.runId === request.runId)) {
          changed = true;
          wake?.();
        }
      });
      try {
        let last = '';
        while (!abort.aborted) {
          changed = false;
          const { row, message } = await runMessage(request.namespace, request.runId, request.format, true);
          const now = JSON.stringify([
            row.state,
            row.execution,
            message.waitingFor,
            message.nodes.map((n) => [n.state, n.attempts, n.worker]),
          ]);
          if (now !== last) yield { run: message };
          last = now;
          if (row.state === 'succeeded' || row.state === 'failed' || row.state === 'cancelled') return;
          if (changed) continue;
          await new Promise<void>((resolve) => {
            const done = () => {
              clearTimeout(timer);
              abort.removeEventListener('abort', done);
              wake = null;
              resolve();
            };
            const timer = setTimeout(done, hub ? LOOK_AGAIN_MS : 250);
            abort.addEventListener('abort', done, { once: true });
            wake = done;
          });
        }
        throwIfCut(context.signal);
      } finally {
        stop?.();
      }
    },

    async cancelRun(request) {
      const state = await runs.cancel(await idOf(request.namespace), request.runId, request.reason);
      return { state: runStates[state] };
    },

    async retryRun(request) {
      return runs.retry(await idOf(request.namespace), request.runId, request.fromNodeIds);
    },

    ...functionHandlers(engine),
  };
}

function workflowMessage(row: WorkflowRow, nodeIds: string[]): Workflow {
  return create(WorkflowSchema, {
    name: row.name,
    version: row.version,
    description: row.description,
    hash: row.hash,
    nodeIds,
    createTime: timestampFromDate(row.createdAt),
  });
}

function runHead(row: RunRow, namespace: string, format: PayloadFormat) {
  return {
    id: row.id,
    namespace,
    workflowName: row.workflowName,
    workflowVersion: row.workflowVersion,
    execution: row.execution,
    state: runStates[row.state],
    createTime: timestampFromDate(row.createdAt),
    ...(row.startedAt && { startTime: timestampFromDate(row.startedAt) }),
    ...(row.endedAt && { endTime: timestampFromDate(row.endedAt) }),
    nodesTotal: row.nodesTotal,
    nodesSucceeded: row.nodesSucceeded,
    failureMessage: row.failureMessage ?? '',
    failedNodeId: row.failedNodeId ?? '',
    cancelReason: row.cancelReason ?? '',
    labels: row.labels ?? {},
    inputPayload: inputPayload(row.input, row.inputEncoding, format),
  };
}

function nodeMessage(row: RunNodeRow, needs: readonly string[], format: PayloadFormat): RunNode {
  return create(RunNodeSchema, {
    nodeId: row.nodeId,
    state: nodeStates[row.state],
    taskId: row.taskId ?? '',
    attempts: row.attempts,
    needs: [...needs],
    ...(row.startedAt && { startTime: timestampFromDate(row.startedAt) }),
    ...(row.endedAt && { endTime: timestampFromDate(row.endedAt) }),
    worker: row.worker ?? '',
    outputHash: row.outputHash ?? '',
    execution: row.execution,
    ...(row.failure && { failure: failureMessage(row.failure) }),
    outputPayload: outputPayload(row.output, row.outputEncoding, format),
  });
}
