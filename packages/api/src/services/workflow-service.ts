import {
  NodeState,
  PayloadFormat,
  RunSchema,
  RunState,
  RunView,
  type StartRunRequest,
  type WorkflowService,
} from '@baton/contract';
import { isId, notFound, Refusal, topologicalWaves } from '@baton/domain';
import type { ClientEngine, EventHub } from '@baton/engine';
import {
  listRunItems,
  listRuns,
  listWorkflows,
  listWorkflowVersions,
  readRun,
  readRunFacts,
  readRunNodes,
  readWorkflow,
} from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { addArtifacts } from '../messages/artifact-messages.ts';
import { durationFromMs } from '../messages/durations.ts';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';
import { decodePayload } from '../messages/payloads.ts';
import { itemMessage, nodeMessages, runHead, workflowMessage } from '../messages/run-messages.ts';
import { nodeStates, runStates, wordOf } from '../messages/words.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';
import { functionHandlers, functionRun } from './function-handlers.ts';
import { createRunWaker } from './run-waker.ts';
import { streamRun } from './stream-run.ts';
import { waitRuns } from './wait-runs.ts';

const DEFAULT_PAGE = 50;
/** A watched run of 10 000 nodes is told once a second, one of 100 a hundred times. */
const WATCHED_NODES_A_MS = 10;
const MAX_VERSION = 2_147_483_647;

const isIndex = (text: string) => /^(0|[1-9]\d{0,8})$/.test(text);

/** @param hub wakes watchers; without it (at the edge) they look by themselves */
export function workflowService(
  engine: ClientEngine,
  hub: EventHub | null,
  options: ApiOptions,
): ServiceImpl<typeof WorkflowService> {
  const { runs, workflows, lanes, env, runEstimates } = engine;
  const { api } = env.pools;
  const idOf = (namespace: string) => lanes.knownNamespaceId(namespace || 'default');

  async function runMessage(
    namespace: string,
    runId: string,
    format: PayloadFormat,
    outputs: boolean,
    view = RunView.UNSPECIFIED,
  ) {
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
    const nodes =
      view === RunView.BASIC ? [] : await readRunNodes(api, runId, outputs && format !== PayloadFormat.NONE);
    const definition = await workflows.definitionOf(namespaceId, row.workflowName, row.workflowVersion);
    const estimate = await runEstimates(namespaceId, row.workflowVersion, definition);
    const message = create(RunSchema, {
      ...runHead(row, namespace || 'default', format),
      form: definition.form,
      nodes: nodeMessages(nodes, definition, estimate, format),
      ...(estimate.runMs !== null && { estimatedDuration: durationFromMs(estimate.runMs) }),
    });
    return { row, message };
  }

  async function start(namespace: string, request: StartRunRequest) {
    const { bytes, encoding } = decodePayload(request.payload, '');
    const workflow =
      request.workflow.case === 'definitionJson'
        ? { definitionJson: request.workflow.value }
        : { name: request.workflow.value ?? '', version: request.version || null, release: request.release || null };
    return runs.start(namespace || 'default', {
      workflow,
      input: bytes,
      encoding,
      idempotencyKey: request.idempotencyKey || null,
      labels: Object.keys(request.labels).length > 0 ? request.labels : null,
    });
  }

  return {
    async validateWorkflow(request) {
      const parsed = await workflows.validate(request.namespace || 'default', request.definitionJson);
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

    async listWorkflowVersions(request) {
      const namespace = request.namespace || 'default';
      const list = JSON.stringify(['workflow versions', namespace, request.name]);
      const limit = request.pageSize || DEFAULT_PAGE;
      const before = Number(decodePageToken(list, request.pageToken, isId) ?? MAX_VERSION);
      const rows = await listWorkflowVersions(api, await idOf(namespace), request.name, before, limit + 1);
      if (rows.length === 0 && request.pageToken === '') throw notFound('workflow', request.name);
      return {
        workflows: rows.slice(0, limit).map((row) => workflowMessage(row, [])),
        nextPageToken: rows.length > limit ? encodePageToken(list, String(rows[limit - 1]!.version)) : '',
      };
    },

    startRun: (request) => start(request.namespace, request),

    async startRuns(request) {
      const results = await Promise.allSettled(request.runs.map((each) => start(request.namespace, each)));
      return {
        results: results.map((result) => {
          if (result.status === 'fulfilled') return { result: { case: 'started' as const, value: result.value } };
          // What is no refusal concerns the whole call: the client repeats it.
          if (!(result.reason instanceof Refusal)) throw result.reason;
          const { code, reason, message } = result.reason;
          return { result: { case: 'refused' as const, value: { code, reason, message } } };
        }),
      };
    },

    waitRuns: (request, context) => waitRuns(engine, hub !== null, options, request, context.signal),

    async listRunItems(request) {
      const { runId, nodeId } = request;
      const row = isId(runId) ? await readRun(api, await idOf(request.namespace), runId) : null;
      if (!row) throw notFound('run', runId);
      const states = request.states
        .filter((s) => s !== NodeState.UNSPECIFIED)
        .map((s) => wordOf(nodeStates, s as never)!);
      const list = JSON.stringify(['run items', runId, nodeId, [...states].sort()]);
      const limit = request.pageSize || DEFAULT_PAGE;
      const token = decodePageToken(list, request.pageToken, isIndex);
      const after = token === null ? -1 : Number(token);
      const items = await listRunItems(api, { runId, nodeId, states, after, limit: limit + 1 });
      return {
        items: items.slice(0, limit).map(itemMessage),
        nextPageToken: items.length > limit ? encodePageToken(list, String(items[limit - 1]!.item)) : '',
      };
    },

    async getRun(request) {
      const { row, message } = await runMessage(request.namespace, request.runId, request.format, true, request.view);
      await addArtifacts(engine, row, message.nodes);
      return { run: message };
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
      const waker = createRunWaker(hub, request.runId, abort);
      try {
        let last = '';
        while (!abort.aborted) {
          waker.reset();
          const { row, message } = await runMessage(request.namespace, request.runId, request.format, true);
          const now = JSON.stringify([
            row.state,
            row.execution,
            message.waitingFor,
            message.nodes.map((n) => [n.state, n.attempts, n.worker, n.itemsSucceeded, n.itemsFailed]),
          ]);
          if (now !== last) yield { run: message };
          last = now;
          if (row.state === 'succeeded' || row.state === 'failed' || row.state === 'cancelled') return;
          // All of a run is read and sent each time: of a large one not at each of its thousands of changes.
          await waker.rest(message.nodes.length / WATCHED_NODES_A_MS);
          await waker.changed();
        }
        throwIfCut(context.signal);
      } finally {
        waker.stop();
      }
    },

    streamRun: (request, context) => streamRun(engine, hub, options, request, context.signal),

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
