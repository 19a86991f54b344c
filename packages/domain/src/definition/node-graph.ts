import type { FoundReference } from './check-expression.ts';
import { componentsOf, cycleThrough, type Graph, notUpstream } from './graph.ts';

import { at, type Place, type Problems, quote } from './problem.ts';
import { showCycle } from './show-cycle.ts';

/** A node as far as the graph is concerned. */
export interface GraphNode {
  readonly id: string;
  readonly place: Place;
  readonly needs: readonly { readonly name: string; readonly place: Place }[];
  readonly references: readonly FoundReference[];
}

/**
 * Reports what is wrong with the graph: ids given twice, needs that name nobody, oneself or the same node twice, every
 * knot of cycles by a shortest cycle in it, references to nodes that are not upstream.
 *
 * @param references those of the run's output, which may name every node
 * @returns the graph over the indexes of `nodes`; undefined when ids are not unique, for then links mean nothing
 */
export function checkGraph(
  problems: Problems,
  nodes: readonly GraphNode[],
  references: readonly FoundReference[] = [],
): Graph | undefined {
  const indexes = new Map<string, number>();
  let isUnique = true;
  for (const [index, { id, place }] of nodes.entries()) {
    const first = indexes.get(id);
    if (first === undefined) {
      indexes.set(id, index);
      continue;
    }
    isUnique = false;
    problems.add(at(place, 'id'), 'DUPLICATE_ID', `another node already has the id ${quote(id)}`, 'rename one of them');
  }
  const needs = nodes.map((node) => readNeeds(problems, node, indexes));
  const graph: Graph = { needs };
  reportCycles(problems, nodes, graph);
  for (const reference of references) if (!indexes.has(reference.node)) refuseUnknown(problems, reference, indexes);
  checkReferences(problems, nodes, indexes, graph);
  return isUnique ? graph : undefined;
}

/** The indexes of what a node needs, without those that are wrong. */
function readNeeds(problems: Problems, node: GraphNode, indexes: ReadonlyMap<string, number>): number[] {
  const needs: number[] = [];
  const seen = new Set<string>();
  for (const { name, place } of node.needs) {
    if (seen.has(name)) {
      problems.add(place, 'DUPLICATE_NEED', `${quote(name)} is needed twice`, 'remove one');
      continue;
    }
    seen.add(name);
    const index = indexes.get(name);
    if (name === node.id) {
      problems.add(place, 'SELF_EDGE', `${quote(name)} needs itself: ${showCycle([name])}`, 'remove it');
    } else if (index === undefined) {
      const message = `${quote(node.id)} needs ${quote(name)}, which is not a node`;
      problems.add(place, 'UNKNOWN_NEED', message, problems.didYouMean(name, indexes.keys()));
    } else {
      needs.push(index);
    }
  }
  return needs;
}

function reportCycles(problems: Problems, nodes: readonly GraphNode[], graph: Graph): void {
  const knots = componentsOf(graph).filter((component) => component.length > 1);
  const smallestOf = (knot: readonly number[]): number =>
    knot.reduce((least, index) => (nodes[index]!.id < nodes[least]!.id ? index : least));
  const starts = knots.map((knot) => ({ knot, start: smallestOf(knot) }));
  starts.sort((a, b) => (nodes[a.start]!.id < nodes[b.start]!.id ? -1 : 1));
  for (const { knot, start } of starts) {
    const cycle = cycleThrough(graph, start, knot).map((index) => nodes[index]!.id);
    const others = knot.length - cycle.length;
    const more = others > 0 ? `; ${others} more ${others === 1 ? 'node is' : 'nodes are'} on cycles with them` : '';
    const message = `the needs run in a circle, each node waiting for the next: ${showCycle(cycle)}${more}`;
    problems.add(at(nodes[start]!.place, 'needs'), 'CYCLE', message, 'remove one of these needs');
  }
}

function checkReferences(
  problems: Problems,
  nodes: readonly GraphNode[],
  indexes: ReadonlyMap<string, number>,
  graph: Graph,
): void {
  const questions: { node: number; target: number; reference: FoundReference }[] = [];
  const unknown = new Set<FoundReference>();
  for (const [node, { references }] of nodes.entries()) {
    for (const reference of references) {
      const target = indexes.get(reference.node);
      if (target === undefined) unknown.add(reference);
      else questions.push({ node, target, reference });
    }
  }
  const notNeeded = new Set(notUpstream(graph, questions).map((question) => question.reference));
  for (const { id, references } of nodes) {
    for (const reference of references) {
      const { node, place, by, isExpression } = reference;
      if (unknown.has(reference)) {
        refuseUnknown(problems, reference, indexes);
      } else if (notNeeded.has(reference)) {
        const message = `${by} of ${quote(id)} refers to ${quote(node)}, which need not have run before it`;
        const hint = node === id ? 'a node cannot use its own output' : `add ${quote(node)} to its "needs"`;
        problems.add(place, isExpression ? 'EXPRESSION_NOT_UPSTREAM' : 'REFERENCE_NOT_UPSTREAM', message, hint);
      }
    }
  }
}

function refuseUnknown(
  problems: Problems,
  { node, place, by }: FoundReference,
  indexes: ReadonlyMap<string, number>,
): void {
  const hint = problems.didYouMean(node, indexes.keys());
  problems.add(place, 'UNKNOWN_REFERENCE', `${by} refers to ${quote(node)}, which is not a node`, hint);
}
