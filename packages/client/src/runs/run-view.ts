import type { Run, RunItem, RunNode, Workflow, WorkflowProblem } from '@baton/contract';
import { optionalDate, optionalMs } from '../calls/time.ts';
import { type ArtifactView, artifactView } from '../data/artifacts.ts';
import { decodePayload } from '../tasks/payload.ts';
import { type FailureView, failureView } from '../tasks/task-view.ts';
import { type NodeStateName, nodeStateName, type RunStateName, runStateName } from '../words.ts';

/** One thing that is wrong with a workflow's definition. */
export interface ProblemView {
  /** Where in the file, e.g. `containers["a"].next_node`. */
  readonly path: string;
  /** Stable, e.g. UNKNOWN_NEXT_NODE. */
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

export interface WorkflowView {
  readonly name: string;
  readonly version: number;
  readonly description?: string;
  /** SHA-256 of the stored form, in hex. */
  readonly hash: string;
  /** As it was applied, JSON text. Absent in lists. */
  readonly definitionJson?: string;
  /** In an order in which they could run. */
  readonly nodeIds: readonly string[];
  readonly createTime?: Date;
}

export interface RunNodeView {
  readonly nodeId: string;
  readonly state: NodeStateName;
  /** Of the current execution's task; absent before it starts. */
  readonly taskId?: string;
  /** Attempts of all executions in which this node ran. */
  readonly attempts: number;
  readonly needs: readonly string[];
  readonly startTime?: Date;
  readonly endTime?: Date;
  readonly worker?: string;
  readonly outputHash?: string;
  readonly output?: unknown;
  readonly failure?: FailureView;
  /** The execution of the run in which this node last ran. */
  readonly execution: number;
  /** Of a durable function's journal: step, sleep, signal, task or child. */
  readonly kind?: string;
  /** Of a node that runs once for each item, once they are known. */
  readonly items?: { readonly total: number; readonly succeeded: number; readonly failed: number };
  /** Label: signature, verifier, reward, training, deployment or custom. */
  readonly type?: string;
  /** 0 needs nothing, n+1 needs something of wave n and nothing later. */
  readonly wave: number;
  /** Its result is the one of an earlier task, used again. */
  readonly cached?: true;
  /** The run that carries it out, where that is a workflow. */
  readonly childRunId?: string;
  /** Median of the newest runs that succeeded. */
  readonly estimatedMs?: number;
  /** Why it was skipped, in words. */
  readonly skipReason?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Files that it has produced; of one that runs once for each item see `artifacts.list`. */
  readonly artifacts?: readonly ArtifactView[];
}

/** An item of a node that runs once for each. */
export interface RunItemView {
  /** Place in the list of items, from 0. */
  readonly index: number;
  readonly state: NodeStateName;
  readonly taskId?: string;
  /** Attempts of all executions in which this item ran. */
  readonly attempts: number;
  readonly worker?: string;
  readonly outputHash?: string;
  readonly failure?: FailureView;
  readonly startTime?: Date;
  readonly endTime?: Date;
  readonly execution: number;
  readonly cached?: true;
  readonly childRunId?: string;
}

/** A run as it stood when it was read. */
export interface RunView<Output = unknown> {
  readonly id: string;
  readonly namespace: string;
  readonly workflowName: string;
  readonly workflowVersion: number;
  /** 1, and one more for each retry of the run. */
  readonly execution: number;
  readonly state: RunStateName;
  readonly createTime?: Date;
  readonly startTime?: Date;
  readonly endTime?: Date;
  /** In an order in which they could run. Empty in lists. */
  readonly nodes: readonly RunNodeView[];
  readonly nodesTotal: number;
  readonly nodesSucceeded: number;
  /** Of `nodesTotal`: those that have ended in any way, or were skipped. */
  readonly stepsCompleted: number;
  /** Some of the nodes that run now. */
  readonly current: readonly string[];
  /** From start to end, by the newest runs that succeeded. */
  readonly estimatedMs?: number;
  /** Which node failed and why, in words. */
  readonly failureMessage?: string;
  readonly failedNodeId?: string;
  readonly input?: unknown;
  /** Of the run, once it has succeeded. */
  readonly output?: Output;
  /** Why it failed. */
  readonly failure?: FailureView;
  readonly cancelReason?: string;
  /** `chain` or `nodes`, the form of the file, or `function`; in lists `graph` or `function`. */
  readonly form?: string;
  /** Of a durable function: the version of the code that it is pinned to. */
  readonly release?: string;
  /** Of a durable function: what it waits for, in words. */
  readonly waitingFor?: readonly string[];
  /** The run that started it. */
  readonly parentRunId?: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function problemView(problem: WorkflowProblem): ProblemView {
  return { path: problem.path, code: problem.code, message: problem.message, hint: problem.hint };
}

export function workflowView(workflow: Workflow): WorkflowView {
  return {
    name: workflow.name,
    version: workflow.version,
    description: workflow.description || undefined,
    hash: workflow.hash,
    definitionJson: workflow.definitionJson || undefined,
    nodeIds: workflow.nodeIds,
    createTime: optionalDate(workflow.createTime),
  };
}

export function runView(run: Run): RunView {
  return {
    id: run.id,
    namespace: run.namespace,
    workflowName: run.workflowName,
    workflowVersion: run.workflowVersion,
    execution: run.execution,
    state: runStateName(run.state),
    createTime: optionalDate(run.createTime),
    startTime: optionalDate(run.startTime),
    endTime: optionalDate(run.endTime),
    nodes: run.nodes.map(runNodeView),
    nodesTotal: run.nodesTotal,
    nodesSucceeded: run.nodesSucceeded,
    stepsCompleted: run.stepsCompleted,
    current: run.current,
    ...(run.estimatedDuration && { estimatedMs: optionalMs(run.estimatedDuration) }),
    failureMessage: run.failureMessage || undefined,
    failedNodeId: run.failedNodeId || undefined,
    input: decodePayload(run.inputPayload),
    ...(run.outputPayload.case !== undefined && { output: decodePayload(run.outputPayload) }),
    ...(run.failure && { failure: failureView(run.failure) }),
    cancelReason: run.cancelReason || undefined,
    ...(run.form !== '' && { form: run.form }),
    ...(run.release !== '' && { release: run.release }),
    ...(run.waitingFor.length > 0 && { waitingFor: run.waitingFor }),
    ...(run.parentRunId !== '' && { parentRunId: run.parentRunId }),
    labels: run.labels,
  };
}

export function runNodeView(node: RunNode): RunNodeView {
  return {
    nodeId: node.nodeId,
    state: nodeStateName(node.state),
    taskId: node.taskId || undefined,
    attempts: node.attempts,
    needs: node.needs,
    startTime: optionalDate(node.startTime),
    endTime: optionalDate(node.endTime),
    worker: node.worker || undefined,
    outputHash: node.outputHash || undefined,
    output: decodePayload(node.outputPayload),
    failure: node.failure && failureView(node.failure),
    execution: node.execution,
    ...(node.kind !== '' && { kind: node.kind }),
    ...(node.itemsTotal > 0 && {
      items: { total: node.itemsTotal, succeeded: node.itemsSucceeded, failed: node.itemsFailed },
    }),
    ...(node.type !== '' && { type: node.type }),
    wave: node.wave,
    ...(node.cached && { cached: true as const }),
    ...(node.childRunId !== '' && { childRunId: node.childRunId }),
    ...(node.estimatedDuration && { estimatedMs: optionalMs(node.estimatedDuration) }),
    ...(node.skipReason !== '' && { skipReason: node.skipReason }),
    labels: node.labels,
    ...(node.artifacts.length > 0 && { artifacts: node.artifacts.map(artifactView) }),
  };
}

export function runItemView(item: RunItem): RunItemView {
  return {
    index: item.index,
    state: nodeStateName(item.state),
    taskId: item.taskId || undefined,
    attempts: item.attempts,
    worker: item.worker || undefined,
    outputHash: item.outputHash || undefined,
    failure: item.failure && failureView(item.failure),
    startTime: optionalDate(item.startTime),
    endTime: optionalDate(item.endTime),
    execution: item.execution,
    ...(item.cached && { cached: true as const }),
    ...(item.childRunId !== '' && { childRunId: item.childRunId }),
  };
}
