import { describe, expect, it } from 'vitest';
import { definitionOf, nodesFile, parseDefinition, seededRandom } from './definition.fixture.ts';
import { componentsOf, cycleThrough, type Graph, notUpstream, wavesOf } from './graph.ts';

/** A random graph; without cycles its nodes are shuffled, so that their numbers say nothing. */
function randomGraph(seed: number, options: { readonly cyclic: boolean }): Graph {
  const random = seededRandom(seed);
  const count = 1 + Math.floor(random() * 12);
  const density = random() * 0.5;
  const rank = [...Array(count).keys()].map((node) => ({ node, key: random() })).sort((a, b) => a.key - b.key);
  const position = new Map(rank.map(({ node }, index) => [node, index]));
  const needs = [...Array(count).keys()].map((node) =>
    [...Array(count).keys()].filter((other) => {
      if (other === node || random() > density) return false;
      return options.cyclic || position.get(other)! < position.get(node)!;
    }),
  );
  return { needs };
}

/** Who needs whom, directly or through others, by Warshall's three loops. */
function closure(graph: Graph): boolean[][] {
  const count = graph.needs.length;
  const reaches = graph.needs.map((needs) => [...Array(count).keys()].map((node) => needs.includes(node)));
  for (let via = 0; via < count; via++) {
    for (let from = 0; from < count; from++) {
      for (let to = 0; to < count; to++) reaches[from]![to] ||= reaches[from]![via]! && reaches[via]![to]!;
    }
  }
  return reaches;
}

const SEEDS = [...Array(400).keys()];

describe('random graphs without cycles', () => {
  it('come in waves, each node one after the last that it needs', () => {
    for (const seed of SEEDS) {
      const graph = randomGraph(seed, { cyclic: false });
      const waveOf = new Map(wavesOf(graph).flatMap((wave, index) => wave.map((node) => [node, index])));
      expect(waveOf.size).toBe(graph.needs.length);
      for (const [node, needs] of graph.needs.entries()) {
        expect(waveOf.get(node)).toBe(Math.max(-1, ...needs.map((need) => waveOf.get(need)!)) + 1);
      }
    }
  });

  it('become definitions in which every node follows what it needs', () => {
    for (const seed of SEEDS) {
      const graph = randomGraph(seed, { cyclic: false });
      const needs = graph.needs.map((list, node) => [`n${node}`, list.map((need) => `n${need}`)]);
      const seen = new Set<string>();
      for (const node of definitionOf(nodesFile(Object.fromEntries(needs))).nodes) {
        expect(node.needs.every((need) => seen.has(need))).toBe(true);
        seen.add(node.id);
      }
      expect(seen.size).toBe(graph.needs.length);
    }
  });
});

describe('random graphs with cycles', () => {
  it('have exactly the components that reaching each other makes, what is needed first', () => {
    for (const seed of SEEDS) {
      const graph = randomGraph(seed, { cyclic: true });
      const reaches = closure(graph);
      const components = componentsOf(graph);
      const componentOf = new Map(components.flatMap((component, index) => component.map((node) => [node, index])));
      for (const [a, row] of reaches.entries()) {
        for (const b of row.keys()) {
          const together = a === b || (reaches[a]![b] && reaches[b]![a]);
          expect(componentOf.get(a) === componentOf.get(b)).toBe(together);
        }
        for (const need of graph.needs[a]!) {
          expect(componentOf.get(need)).toBeLessThanOrEqual(componentOf.get(a)!);
        }
      }
    }
  });

  it('show a real cycle, a shortest one through its start', () => {
    for (const seed of SEEDS) {
      const graph = randomGraph(seed, { cyclic: true });
      for (const component of componentsOf(graph).filter(({ length }) => length > 1)) {
        for (const start of component) {
          const cycle = cycleThrough(graph, start, component);
          expect(cycle[0]).toBe(start);
          expect(new Set(cycle).size).toBe(cycle.length);
          for (const [index, node] of cycle.entries()) {
            expect(graph.needs[node]).toContain(cycle[(index + 1) % cycle.length]);
          }
          expect(cycle.length).toBe(shortestWayBack(graph, start));
        }
      }
    }
  });

  it('have one CYCLE problem for each knot, and none that is not there', () => {
    for (const seed of SEEDS) {
      const graph = randomGraph(seed, { cyclic: true });
      const needs = graph.needs.map((list, node) => [`n${node}`, list.map((need) => `n${need}`)]);
      const parsed = parseDefinition(nodesFile(Object.fromEntries(needs)));
      const knots = componentsOf(graph).filter(({ length }) => length > 1).length;
      const cycles = parsed.ok ? [] : parsed.problems;
      expect(cycles.map(({ code }) => code)).toEqual(Array(knots).fill('CYCLE'));
    }
  });

  it('answer who is upstream as the closure does', () => {
    for (const seed of SEEDS) {
      const graph = randomGraph(seed, { cyclic: seed % 2 === 0 });
      const reaches = closure(graph);
      const nodes = [...graph.needs.keys()];
      const questions = nodes.flatMap((node) => nodes.map((target) => ({ node, target })));
      expect(notUpstream(graph, questions)).toEqual(questions.filter(({ node, target }) => !reaches[node]![target]));
    }
  });

  it('answer for more than 32 targets', () => {
    const needs = [...Array(200).keys()].map((node) => (node === 0 ? [] : [node - 1]));
    const questions = [...needs.keys()].flatMap((node) => [...needs.keys()].map((target) => ({ node, target })));
    expect(notUpstream({ needs }, questions)).toEqual(questions.filter(({ node, target }) => target >= node));
  });
});

function shortestWayBack(graph: Graph, start: number): number {
  let frontier = new Set([start]);
  for (let length = 1; length <= graph.needs.length; length++) {
    frontier = new Set([...frontier].flatMap((node) => graph.needs[node]!));
    if (frontier.has(start)) return length;
  }
  return Number.NaN;
}
