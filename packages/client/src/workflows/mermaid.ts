import { type CheckedExpression, type Expressions, type NodeDefinition, parseDefinition } from '@baton/domain';
import type { RunNodeView, RunView } from '../runs/run-view.ts';
import type { WorkflowDefinition } from '../workflows.ts';
import { Graph } from './graph.ts';
import { GraphError } from './graph-reference.ts';

/** A box of the drawing; `state` only where it is of a run. */
interface Box {
  readonly id: string;
  /** Lines below the id. */
  readonly notes: readonly string[];
  readonly shape: readonly [string, string];
  readonly needs: readonly { readonly id: string; readonly type?: string | undefined }[];
  readonly state?: string;
}

const PLAIN = ['[', ']'] as const;
/** A task for each item of a list: a box with double sides. */
const FOR_EACH = ['[[', ']]'] as const;
/** For each combination: a hexagon. */
const MATRIX = ['{{', '}}'] as const;
/** Another workflow: round ends. */
const WORKFLOW = ['([', '])'] as const;

const STATE_STYLES = {
  pending: 'fill:#f5f5f5,stroke:#9e9e9e,color:#212121',
  running: 'fill:#bbdefb,stroke:#1565c0,color:#212121',
  succeeded: 'fill:#c8e6c9,stroke:#2e7d32,color:#212121',
  failed: 'fill:#ffcdd2,stroke:#c62828,color:#212121',
  cancelled: 'fill:#ffe0b2,stroke:#ef6c00,color:#212121',
  skipped: 'fill:#ffffff,stroke:#9e9e9e,color:#757575,stroke-dasharray:4 3',
} as const;

/** The longest condition that is shown whole, in UTF-16 code units. */
const MAX_CONDITION_LENGTH = 80;

/**
 * A Mermaid flowchart of a workflow (a graph, or a definition of any file form) or of a run, whose nodes have their states as classes.
 * Fan-outs have double sides, matrices are hexagons, other workflows have round ends; needs of type `control` and `reward` are dotted.
 * No name can break out of its label. Throws `GraphError` for a definition that is not sound; expressions are not looked at.
 */
export function toMermaid(workflow: Graph<never> | WorkflowDefinition | RunView): string {
  const boxes = boxesOf(workflow);
  const names = new Map(boxes.map(({ id }, index) => [id, `n${index}`]));
  const lines = ['flowchart TD'];
  for (const [index, { id, notes, shape }] of boxes.entries()) {
    lines.push(`  n${index}${shape[0]}"${[id, ...notes].map(escaped).join('<br/>')}"${shape[1]}`);
  }
  for (const [index, { needs }] of boxes.entries()) {
    for (const { id, type } of needs) {
      const arrow = type === undefined ? '-->' : `-. ${type} .->`;
      if (names.has(id)) lines.push(`  ${names.get(id)} ${arrow} n${index}`);
    }
  }
  for (const [state, style] of Object.entries(STATE_STYLES)) {
    const having = boxes.flatMap((box, index) => (box.state === state ? [`n${index}`] : []));
    if (having.length > 0) lines.push(`  classDef ${state} ${style}`, `  class ${having.join(',')} ${state}`);
  }
  return `${lines.join('\n')}\n`;
}

// Drawn by what needs what, which expressions do not change.
const anyExpressions: Expressions = {
  check: (): CheckedExpression => ({ ok: true, nodes: [] }),
  evaluate: () => null,
};

function boxesOf(workflow: Graph<never> | WorkflowDefinition | RunView): Box[] {
  if (isRun(workflow)) return workflow.nodes.map(boxOfRunNode);
  const parsed = parseDefinition(workflow instanceof Graph ? workflow.definition : workflow, anyExpressions);
  if (parsed.ok) return parsed.definition.nodes.map(boxOfNode);
  const [first] = parsed.problems;
  throw new GraphError(`the definition is not sound: ${first?.path ?? ''} ${first?.message ?? ''}`);
}

function isRun(workflow: object): workflow is RunView {
  return 'workflowName' in workflow && 'execution' in workflow && 'nodes' in workflow;
}

function boxOfNode({ id, kind, executor, needs, edgeTypes, forEach, when }: NodeDefinition): Box {
  const notes: string[] = [];
  if (kind !== id) notes.push(kind);
  if (when !== undefined) {
    notes.push(`when ${when.length > MAX_CONDITION_LENGTH ? `${when.slice(0, MAX_CONDITION_LENGTH)}…` : when}`);
  }
  const ofItems = forEach && ('matrix' in forEach ? MATRIX : FOR_EACH);
  return {
    id,
    notes,
    shape: ofItems ?? (executor.type === 'workflow' ? WORKFLOW : PLAIN),
    // An own key: a node may be called `constructor`.
    needs: needs.map((need) => ({
      id: need,
      type: edgeTypes && Object.hasOwn(edgeTypes, need) ? edgeTypes[need] : undefined,
    })),
  };
}

function boxOfRunNode(node: RunNodeView): Box {
  const notes: string[] = [node.cached ? `${node.state}, cached` : node.state];
  if (node.items) {
    const { total, succeeded, failed } = node.items;
    notes.push(`${succeeded} of ${total}${failed > 0 ? `, ${failed} failed` : ''}`);
  }
  return {
    id: node.nodeId,
    notes,
    shape: node.items ? FOR_EACH : node.childRunId ? WORKFLOW : PLAIN,
    needs: node.needs.map((id) => ({ id })),
    state: node.state,
  };
}

/** Letters, digits and a little more as they are; all else by its number, since quotes, `%%`, `#` and `\n` mean something there. */
function escaped(text: string): string {
  return text.replace(/[^\p{L}\p{M}\p{N} _.,()=+-]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    // Control characters and halves of surrogates have no number in HTML.
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0xd800 && code < 0xe000) ? ' ' : `#${code};`;
  });
}
