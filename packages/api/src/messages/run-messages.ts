import {
  type PayloadFormat,
  type RunItem,
  RunItemSchema,
  type RunNode,
  RunNodeSchema,
  type Workflow,
  WorkflowSchema,
} from '@baton/contract';
import { topologicalWaves, type WorkflowDefinition } from '@baton/domain';
import type { RunEstimate, RunItemRow, RunNodeRow, RunRow, WorkflowRow } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { durationFromMs } from './durations.ts';
import { inputPayload, outputPayload } from './payloads.ts';
import { failureMessage } from './task-messages.ts';
import { nodeStates, runStates } from './words.ts';

export function workflowMessage(row: WorkflowRow, nodeIds: string[]): Workflow {
  return create(WorkflowSchema, {
    name: row.name,
    version: row.version,
    description: row.description,
    hash: row.hash,
    nodeIds,
    createTime: timestampFromDate(row.createdAt),
  });
}

/** All of a run but its nodes, its output and what it is estimated to take. */
export function runHead(row: RunRow, namespace: string, format: PayloadFormat) {
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
    stepsCompleted: row.nodesEnded,
    current: row.currentNodes ?? [],
    failureMessage: row.failureMessage ?? '',
    failedNodeId: row.failedNodeId ?? '',
    cancelReason: row.cancelReason ?? '',
    labels: row.labels ?? {},
    form: row.form as string,
    release: row.release ?? '',
    waitingFor: row.waitingFor ?? [],
    parentRunId: row.parentRunId ?? '',
    parentNodeId: row.parentNodeId ?? '',
    ...(row.failure && { failure: failureMessage(row.failure) }),
    inputPayload: inputPayload(row.input, row.inputEncoding, format),
    outputPayload: runOutput(row, format),
  };
}

/** Of a large output what names its blob, in the form that clients know. */
function runOutput(row: RunRow, format: PayloadFormat) {
  if (!row.outputBlob) return outputPayload(row.output, row.outputEncoding, format);
  return blobOutput(row.outputBlob, row.outputEncoding, format);
}

function blobOutput(blob: { sha256: string; sizeBytes: number }, encoding: number | null, format: PayloadFormat) {
  const name = { __baton: 'blob', ...blob, encoding: encoding === 2 ? 'bytes' : 'json' };
  return outputPayload(new TextEncoder().encode(JSON.stringify(name)), 1, format);
}

interface NodeFacts {
  definition: WorkflowDefinition['nodes'][number];
  wave: number;
}

const factsOf = new WeakMap<WorkflowDefinition, Map<string, NodeFacts>>();

/** What of a node is the same in all runs; made once for each definition. */
function nodeFacts(definition: WorkflowDefinition): Map<string, NodeFacts> {
  let facts = factsOf.get(definition);
  if (!facts) {
    const waves = new Map<string, number>();
    for (const [wave, ids] of topologicalWaves(definition).entries()) for (const id of ids) waves.set(id, wave);
    facts = new Map(definition.nodes.map((node) => [node.id, { definition: node, wave: waves.get(node.id) ?? 0 }]));
    factsOf.set(definition, facts);
  }
  return facts;
}

export function nodeMessages(
  rows: readonly RunNodeRow[],
  definition: WorkflowDefinition,
  estimate: RunEstimate,
  format: PayloadFormat,
): RunNode[] {
  const facts = nodeFacts(definition);
  return rows.map((row) => nodeMessage(row, facts.get(row.nodeId), estimate.nodeMs.get(row.nodeId), format));
}

function nodeMessage(
  row: RunNodeRow,
  facts: NodeFacts | undefined,
  estimatedMs: number | undefined,
  format: PayloadFormat,
): RunNode {
  return create(RunNodeSchema, {
    nodeId: row.nodeId,
    state: nodeStates[row.state],
    taskId: row.taskId ?? '',
    attempts: row.attempts,
    needs: [...(facts?.definition.needs ?? [])],
    ...(row.startedAt && { startTime: timestampFromDate(row.startedAt) }),
    ...(row.endedAt && { endTime: timestampFromDate(row.endedAt) }),
    worker: row.worker ?? '',
    outputHash: row.outputHash ?? '',
    execution: row.execution,
    itemsTotal: row.itemsTotal ?? 0,
    itemsSucceeded: (row.itemsEnded ?? 0) - (row.itemsFailed ?? 0),
    itemsFailed: row.itemsFailed ?? 0,
    type: facts?.definition.type ?? '',
    wave: facts?.wave ?? 0,
    cached: row.cached,
    childRunId: row.childRunId ?? '',
    skipReason: row.skipReason ?? '',
    labels: facts?.definition.labels ?? {},
    ...(estimatedMs !== undefined && { estimatedDuration: durationFromMs(estimatedMs) }),
    ...(row.failure && { failure: failureMessage(row.failure) }),
    outputPayload: row.outputBlob
      ? blobOutput(row.outputBlob, row.outputEncoding, format)
      : outputPayload(row.output, row.outputEncoding, format),
  });
}

export function itemMessage(row: RunItemRow): RunItem {
  return create(RunItemSchema, {
    index: row.item,
    state: nodeStates[row.state],
    taskId: row.taskId ?? '',
    attempts: row.attempts,
    worker: row.worker ?? '',
    outputHash: row.outputHash ?? '',
    execution: row.execution,
    cached: row.cached,
    childRunId: row.childRunId ?? '',
    startTime: timestampFromDate(row.startedAt),
    ...(row.endedAt && { endTime: timestampFromDate(row.endedAt) }),
    ...(row.failure && { failure: failureMessage(row.failure) }),
  });
}
