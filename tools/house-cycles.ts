/** An import: `from` needs `to`. */
export interface Edge {
  from: string;
  to: string;
  line: number;
}

/**
 * Finds the cycles of a graph: for each strongly connected part one shortest cycle through its first node, as the list
 * of its edges. Breaking that one and running again shows the next.
 */
export function findCycles<E extends Edge>(edges: readonly E[]): E[][] {
  const out = new Map<string, E[]>();
  for (const edge of edges) {
    const list = out.get(edge.from);
    if (list) list.push(edge);
    else out.set(edge.from, [edge]);
  }
  return components(out)
    .filter((part) => part.size > 1 || out.get([...part][0]!)?.some(({ from, to }) => from === to))
    .map((part) => shortestCycle(out, part));
}

/** Tarjan's algorithm, without recursion: a graph of files is deeper than a stack likes. */
function components<E extends Edge>(out: Map<string, E[]>): Set<string>[] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const onStack = new Set<string>();
  const found: Set<string>[] = [];
  for (const start of [...out.keys()].sort()) {
    if (index.has(start)) continue;
    const frames: { node: string; next: number }[] = [];
    const enter = (node: string): void => {
      index.set(node, index.size);
      low.set(node, index.get(node)!);
      stack.push(node);
      onStack.add(node);
      frames.push({ node, next: 0 });
    };
    enter(start);
    while (frames.length > 0) {
      const frame = frames.at(-1)!;
      const edge = out.get(frame.node)?.[frame.next++];
      if (edge) {
        if (!index.has(edge.to)) enter(edge.to);
        else if (onStack.has(edge.to)) lower(frame.node, index.get(edge.to)!);
        continue;
      }
      frames.pop();
      const parent = frames.at(-1);
      if (parent) lower(parent.node, low.get(frame.node)!);
      if (low.get(frame.node) !== index.get(frame.node)) continue;
      const part = new Set<string>();
      for (let node = stack.pop()!; ; node = stack.pop()!) {
        onStack.delete(node);
        part.add(node);
        if (node === frame.node) break;
      }
      found.push(part);
    }
  }
  return found;

  function lower(node: string, value: number): void {
    low.set(node, Math.min(low.get(node)!, value));
  }
}

function shortestCycle<E extends Edge>(out: Map<string, E[]>, part: Set<string>): E[] {
  const start = [...part].sort()[0]!;
  const reachedBy = new Map<string, E>();
  const queue = [start];
  for (const node of queue) {
    for (const edge of out.get(node) ?? []) {
      if (!part.has(edge.to) || reachedBy.has(edge.to)) continue;
      reachedBy.set(edge.to, edge);
      if (edge.to !== start) queue.push(edge.to);
    }
  }
  const cycle: E[] = [];
  let at = start;
  do {
    const edge = reachedBy.get(at)!;
    cycle.unshift(edge);
    at = edge.from;
  } while (at !== start);
  return cycle;
}
