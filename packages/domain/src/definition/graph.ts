/**
 * A graph over the numbers 0 … n−1. `needs[i]` lists what node i needs, without repetitions and without i itself.
 * Everything here is linear and iterative: a chain of 20 000 nodes is an ordinary graph.
 */
export interface Graph {
  readonly needs: readonly (readonly number[])[];
}

/** The reverse of `needs`: who waits for each node, in ascending order. */
export function dependentsOf(graph: Graph): number[][] {
  const dependents: number[][] = graph.needs.map(() => []);
  for (const [node, needs] of graph.needs.entries()) for (const need of needs) dependents[need]!.push(node);
  return dependents;
}

/**
 * The nodes by wave: wave 0 needs nothing, wave n+1 needs something of wave n and nothing later. Nodes on a cycle, or
 * behind one, are in no wave.
 */
export function wavesOf(graph: Graph): number[][] {
  const dependents = dependentsOf(graph);
  const missing = graph.needs.map((needs) => needs.length);
  const waves: number[][] = [];
  let wave = [...missing.keys()].filter((node) => missing[node] === 0);
  while (wave.length > 0) {
    waves.push(wave);
    const next: number[] = [];
    for (const node of wave) {
      for (const dependent of dependents[node]!) {
        missing[dependent]! -= 1;
        if (missing[dependent] === 0) next.push(dependent);
      }
    }
    wave = next;
  }
  return waves;
}

/**
 * The strongly connected components (Tarjan's, with a stack of its own), what is needed before what needs it. A
 * component of more than one node is a knot of cycles; one of a single node is that node.
 */
export function componentsOf(graph: Graph): number[][] {
  const count = graph.needs.length;
  const order = new Int32Array(count).fill(-1);
  const low = new Int32Array(count);
  const onPath = new Uint8Array(count);
  const path: number[] = [];
  const components: number[][] = [];
  let visited = 0;

  const work: { node: number; edge: number }[] = [];
  const enter = (node: number): void => {
    order[node] = low[node] = visited++;
    onPath[node] = 1;
    path.push(node);
    work.push({ node, edge: 0 });
  };
  for (let root = 0; root < count; root++) {
    if (order[root] !== -1) continue;
    enter(root);
    for (let top = work.at(-1); top; top = work.at(-1)) {
      const { node } = top;
      const need = graph.needs[node]![top.edge++];
      if (need === undefined) {
        work.pop();
        const below = work.at(-1)?.node;
        if (below !== undefined) low[below] = Math.min(low[below]!, low[node]!);
        if (low[node] !== order[node]) continue;
        const component: number[] = [];
        let member: number;
        do {
          member = path.pop()!;
          onPath[member] = 0;
          component.push(member);
        } while (member !== node);
        components.push(component);
      } else if (order[need] === -1) {
        enter(need);
      } else if (onPath[need] === 1) {
        low[node] = Math.min(low[node]!, order[need]!);
      }
    }
  }
  return components;
}

/**
 * A shortest cycle through a node of a knot, as the nodes in order of need, beginning with that node: each needs the
 * next, the last needs the first.
 */
export function cycleThrough(graph: Graph, start: number, component: readonly number[]): number[] {
  const inside = new Set(component);
  const cameFrom = new Map<number, number>();
  const queue = [start];
  for (let head = 0; head < queue.length; head++) {
    const node = queue[head]!;
    for (const need of graph.needs[node]!) {
      if (need === start) {
        const cycle = [node];
        for (let here = node; here !== start; ) {
          here = cameFrom.get(here)!;
          cycle.push(here);
        }
        return cycle.reverse();
      }
      if (!inside.has(need) || cameFrom.has(need)) continue;
      cameFrom.set(need, node);
      queue.push(need);
    }
  }
  return [];
}

/** A question to `notUpstream`: does `node` need `target`, directly or through others? */
export interface UpstreamQuestion {
  readonly node: number;
  readonly target: number;
}

/**
 * The questions whose answer is no. Asked for 32 targets at a time, each time with one pass over all edges, so that
 * many references cost little time and no memory; on a cycle everybody needs everybody, himself included.
 */
export function notUpstream<Q extends UpstreamQuestion>(graph: Graph, questions: readonly Q[]): Q[] {
  const direct = new Map<number, ReadonlySet<number>>();
  for (const { node } of questions) if (!direct.has(node)) direct.set(node, new Set(graph.needs[node]));
  const open = questions.filter(({ node, target }) => !direct.get(node)!.has(target));
  if (open.length === 0) return [];
  const components = componentsOf(graph);
  const targets = [...new Set(open.map(({ target }) => target))];
  const bit = new Map(targets.map((target, index) => [target, index]));
  const answered = new Map<number, Q[]>();
  for (const question of open) {
    const group = Math.floor(bit.get(question.target)! / 32);
    const asked = answered.get(group);
    if (asked) asked.push(question);
    else answered.set(group, [question]);
  }

  const no = new Set<Q>();
  const own = new Int32Array(graph.needs.length);
  const upstream = new Int32Array(graph.needs.length);
  for (const [group, asked] of answered) {
    const members = targets.slice(group * 32, group * 32 + 32);
    own.fill(0);
    for (const [index, target] of members.entries()) own[target] = 1 << index;
    for (const component of components) {
      let mask = 0;
      for (const node of component) {
        if (component.length > 1) mask |= own[node]!;
        for (const need of graph.needs[node]!) mask |= upstream[need]! | own[need]!;
      }
      for (const node of component) upstream[node] = mask;
    }
    for (const question of asked) {
      if ((upstream[question.node]! & own[question.target]!) === 0) no.add(question);
    }
  }
  return open.filter((question) => no.has(question));
}
