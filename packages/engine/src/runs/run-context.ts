import {
  compileGraph,
  type Failure,
  type ItemProgress,
  type JsonValue,
  type NodeState,
  nodesReadBy,
  nodesReadInto,
  type RunGraph,
  RunProgress,
  templateNodes,
  templatePartNodes,
  type WorkflowDefinition,
} from '@baton/domain';
import { type Encoding, type NodeStanding, type RunRow, readNodeStandings, readRuns } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { expressions } from './expressions.ts';
import type { Workflows } from './workflows.ts';

/** A version of a workflow, made ready for running: shared by all its runs. */
export interface CompiledWorkflow {
  definition: WorkflowDefinition;
  graph: RunGraph;
  /** The nodes whose state or output a node wants when it starts. */
  readsOf(node: number): readonly number[];
  /** Those of them of whose outputs it wants a part: of a blob its content. */
  partsOf(node: number): readonly number[];
  /** Those of which its condition wants one. */
  whenPartsOf(node: number): readonly number[];
  /** The output of this node is wanted by another, or by the run's output. */
  isRead(node: number): boolean;
  /** The nodes that the run's output is made of. */
  outputReads: readonly number[];
  outputParts: readonly number[];
}

const compiled = new WeakMap<WorkflowDefinition, CompiledWorkflow>();

export function compileWorkflow(definition: WorkflowDefinition): CompiledWorkflow {
  let known = compiled.get(definition);
  if (!known) {
    const graph = compileGraph(definition.nodes);
    const numbers = (ids: Iterable<string>) => [...ids].flatMap((id) => graph.indexOf.get(id) ?? []);
    const reads = definition.nodes.map((node) => numbers(nodesReadBy(node, expressions)));
    const parts = definition.nodes.map((node) => numbers(nodesReadInto(node, expressions)));
    const whenParts = definition.nodes.map(({ when }) =>
      when === undefined ? [] : numbers(templatePartNodes({ $expr: when }, expressions)),
    );
    const outputParts =
      definition.output === undefined ? [] : numbers(templatePartNodes(definition.output, expressions));
    const outputReads =
      definition.output === undefined ? graph.leaves : numbers(templateNodes(definition.output, expressions));
    const isRead = new Uint8Array(definition.nodes.length);
    for (const list of reads) for (const node of list) isRead[node] = 1;
    // Of many leaves the outputs are read once, when the run ends.
    if (outputReads.length <= 16) for (const node of outputReads) isRead[node] = 1;
    known = {
      definition,
      graph,
      readsOf: (n) => reads[n]!,
      partsOf: (n) => parts[n]!,
      whenPartsOf: (n) => whenParts[n]!,
      isRead: (n) => isRead[n] === 1,
      outputReads,
      outputParts,
    };
    compiled.set(definition, known);
  }
  return known;
}

/** A blob that is the output of a node. */
export interface NamedBlob {
  sha256: string;
  sizeBytes: number;
  encoding: Encoding;
}

/** The items of a node that runs. */
export interface RunningItems {
  progress: ItemProgress;
  /** Made anew from what the node needs, whenever it is not at hand: the same for everybody. */
  list: readonly JsonValue[] | null;
  /** Of the first item that failed. */
  failure: { item: number; failure: Failure } | null;
  /** By item, of those that run: the runs that carry them out. */
  childIds: Map<number, string>;
  /** Whether all its items run, whatever becomes of them. */
  continues: boolean;
}

/**
 * What a master keeps in memory of a run that it advances. All of it can be lost: it is made from Postgres again. Holds at `run.revision`
 * only; whoever steps the run writes nothing if it is another one there.
 */
export interface RunContext {
  run: RunRow;
  workflow: CompiledWorkflow;
  progress: RunProgress;
  /** By node: its task, or the earlier one whose result it has. */
  taskIds: (string | null)[];
  childIds: (string | null)[];
  failures: Map<number, Failure>;
  /** Of nodes that run. */
  items: Map<number, RunningItems>;
  /** By node, of those that have items: how many. */
  itemTotals: Map<number, number>;
  /** Outputs that are wanted and at hand. */
  outputs: Map<number, JsonValue>;
  /** Of those that are blobs, whose output is a name: what it names. */
  blobs: Map<number, NamedBlob>;
  /** What is in them, where a part of it is wanted. */
  contents: Map<number, JsonValue>;
  /** Those of them that were read for this step, and may be large. */
  loaded: Set<number>;
  input: JsonValue | undefined;
  /** Skipped since the last step, and why. */
  skipped: Map<number, string>;
  /** The tasks and runs of a run that is being cancelled were asked to stop. */
  cancelSent: boolean;
}

export function contextOf(run: RunRow, definition: WorkflowDefinition, nodes: readonly NodeStanding[]): RunContext {
  const workflow = compileWorkflow(definition);
  const states: (NodeState | undefined)[] = [];
  const context: RunContext = {
    run,
    workflow,
    progress: undefined as never,
    taskIds: definition.nodes.map(() => null),
    childIds: definition.nodes.map(() => null),
    failures: new Map(),
    items: new Map(),
    itemTotals: new Map(),
    outputs: new Map(),
    blobs: new Map(),
    contents: new Map(),
    loaded: new Set(),
    input: undefined,
    skipped: new Map(),
    cancelSent: false,
  };
  for (const row of nodes) {
    const node = workflow.graph.indexOf.get(row.nodeId);
    if (node === undefined) continue;
    states[node] = row.state;
    context.taskIds[node] = row.taskId;
    context.childIds[node] = row.childRunId;
    if (row.failure) context.failures.set(node, row.failure);
    if (row.itemsTotal !== null) context.itemTotals.set(node, row.itemsTotal);
  }
  context.progress = new RunProgress(workflow.graph, states, (node, reason) => context.skipped.set(node, reason));
  return context;
}

/** Nodes of all contexts that are kept, about; a node takes some 100 bytes. */
const MAX_KEPT_NODES = 1_000_000;
const MAX_KEPT_RUNS = 20_000;

export interface RunContexts {
  /** Contexts of these runs as they are now, at these revisions if they are known; those of runs that are gone are missing. */
  get(runs: readonly { runId: string; revision: number }[]): Promise<Map<string, RunContext>>;
  /** Kept again after a step. */
  keep(context: RunContext): void;
  drop(runId: string): void;
  size(): number;
}

export function createRunContexts(env: EngineEnvironment, workflows: Workflows): RunContexts {
  const { pools } = env;
  const kept = new Map<string, RunContext>();
  let nodes = 0;

  function drop(runId: string): void {
    const context = kept.get(runId);
    if (!context) return;
    kept.delete(runId);
    nodes -= weight(context);
  }

  return {
    drop,
    size: () => kept.size,
    keep(context) {
      drop(context.run.id);
      kept.set(context.run.id, context);
      nodes += weight(context);
      for (const [id] of kept) {
        if (kept.size <= 1 || (nodes <= MAX_KEPT_NODES && kept.size <= MAX_KEPT_RUNS)) break;
        drop(id);
      }
    },
    async get(runs) {
      const found = new Map<string, RunContext>();
      const missing: string[] = [];
      for (const { runId, revision } of runs) {
        const context = kept.get(runId);
        // While it is stepped it is not kept: a step that fails leaves nothing half changed behind.
        drop(runId);
        if (context && context.run.revision === revision) found.set(runId, context);
        else missing.push(runId);
      }
      if (missing.length === 0) return found;
      // The run first: a step that comes between makes its revision an old one, and nothing is written.
      const rows = await readRuns(pools.api, null, missing);
      const standings = await readNodeStandings(
        pools.api,
        rows.map((r) => r.id),
      );
      await Promise.all(
        rows.map(async (row) => {
          const definition = await workflows.definitionOf(row.namespaceId, row.workflowName, row.workflowVersion);
          found.set(row.id, contextOf(row, definition, standings.get(row.id)!));
        }),
      );
      return found;
    },
  };
}

const weight = (context: RunContext) => context.workflow.graph.nodes.length + context.run.itemsTotal;
