import { describe, expect, it } from 'vitest';
import { seededRandom } from '../definition/definition.fixture.ts';
import type { NodeState } from '../definition/waves.ts';
import { planRetryFrom } from './plan-retry.ts';
import { compileGraph, type PlannedNode } from './run-graph.ts';
import { type NodeEnd, RunProgress } from './run-progress.ts';

/**
 * The rules written down as they are read: all states again from the beginning, for as long as something follows. Slow, and the model
 * that the incremental planner is held against.
 */
function fullPlan(
  nodes: readonly PlannedNode[],
  given: readonly NodeState[],
  cancelled: boolean,
): { states: NodeState[]; startable: number[]; standing: string } {
  const states = [...given];
  const index = new Map(nodes.map(({ id }, i) => [id, i]));
  const needs = nodes.map((node) => node.needs.map((id) => index.get(id)!));
  const stops = (i: number) =>
    (states[i] === 'failed' || states[i] === 'cancelled') && nodes[i]!.onFailure !== 'continue';
  const isEnd = (state: NodeState) => state !== 'pending' && state !== 'running';
  const isStopped = cancelled || states.some((_, i) => stops(i));
  for (let changed = true; changed; ) {
    changed = false;
    for (const [i, node] of nodes.entries()) {
      if (states[i] !== 'pending') continue;
      const of = needs[i]!.map((n) => states[n]!);
      const skip =
        isStopped ||
        (node.join === undefined && of.includes('skipped')) ||
        (node.join === 'any' && of.length > 0 && of.every(isEnd) && !of.includes('succeeded'));
      if (!skip) continue;
      states[i] = 'skipped';
      changed = true;
    }
  }
  const startable = [...nodes.keys()].filter(
    (i) => states[i] === 'pending' && needs[i]!.every((n) => isEnd(states[n]!)),
  );
  let standing = 'succeeded';
  if (!states.every(isEnd)) standing = 'running';
  else if (states.some((s, i) => s === 'failed' && stops(i))) standing = 'failed';
  else if (states.some((s, i) => s === 'cancelled' && stops(i))) standing = 'cancelled';
  else if (cancelled && states.some((s) => s !== 'succeeded')) standing = 'cancelled';
  return { states, startable, standing };
}

function randomNodes(random: () => number): PlannedNode[] {
  const count = 1 + Math.floor(random() * 14);
  return Array.from({ length: count }, (_, i) => {
    const needs = Array.from({ length: i }, (_, n) => `n${n}`).filter(() => random() < 2.2 / (i + 1));
    const join = random();
    return {
      id: `n${i}`,
      needs,
      ...(join < 0.2 ? { join: 'any' as const } : join < 0.35 ? { join: 'always' as const } : {}),
      ...(random() < 0.4 && { onFailure: 'continue' as const }),
    };
  });
}

const ENDS: readonly NodeEnd[] = ['succeeded', 'succeeded', 'succeeded', 'succeeded', 'failed', 'cancelled'];

function drain(progress: RunProgress): number[] {
  const taken: number[] = [];
  for (let node = progress.take(); node !== undefined; node = progress.take()) taken.push(node);
  return taken;
}

const sorted = (nodes: readonly number[]) => [...nodes].sort((a, b) => a - b);

/** `expect` for each of a hundred thousand comparisons would take most of the time. */
function same(seed: number, found: unknown, expected: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(expected)) expect({ seed, found }).toEqual({ seed, found: expected });
}

describe('the progress of a run', () => {
  it('is that of the rules, whatever ends in whatever order and batches, after every one of them', () => {
    const outcomes = new Map<string, number>();
    for (let seed = 1; seed <= 4_000; seed++) {
      const random = seededRandom(seed);
      const nodes = randomNodes(random);
      const graph = compileGraph(nodes);
      const skipped = new Set<number>();
      const progress = new RunProgress(graph, [], (node) => skipped.add(node));
      let model: NodeState[] = nodes.map(() => 'pending');
      let cancelled = false;
      for (let round = 0; progress.standing === 'running'; round++) {
        if (round > 200) throw new Error(`seed ${seed} does not end`);
        const expected = fullPlan(nodes, model, cancelled);
        const startable = drain(progress);
        same(seed, sorted(startable), expected.startable);
        same(seed, expected.standing, 'running');
        model = expected.states;
        // Some start, some are skipped by their condition or fail at once, some wait for the next step.
        const later: number[] = [];
        for (const node of startable) {
          const choice = random();
          if (choice < 0.2) later.push(node);
          // Whatever stopped the run meanwhile has skipped it.
          else if (!progress.isPending(node)) continue;
          else if (choice < 0.3) progress.skip(node, 'its condition was false');
          else if (choice < 0.35) progress.end(node, 'failed');
          else progress.start(node);
        }
        progress.putBack(later);
        if (random() < 0.02) {
          cancelled = true;
          progress.cancel();
        }
        for (const node of [...progress.running])
          if (random() < 0.6) progress.end(node, ENDS[Math.floor(random() * ENDS.length)]!);
        const now = nodes.map((_, node) => progress.state(node));
        // What the incremental one has skipped follows from what has started and ended.
        model = now.map((state, node) =>
          state === 'skipped' && model[node] === 'pending' && !startable.includes(node) ? 'pending' : state,
        );
        const after = fullPlan(nodes, model, cancelled);
        same(seed, now, after.states);
        same(seed, progress.standing, after.standing);
        same(seed, progress.ended, now.filter((s) => s !== 'pending' && s !== 'running').length);
        same(seed, progress.succeeded, now.filter((s) => s === 'succeeded').length);
        same(seed, sorted([...skipped]).length, now.filter((s) => s === 'skipped').length);
        // Made anew from the states, as after a crash, it is the same.
        if (round % 3 === 0) {
          const anew = new RunProgress(graph, now, () => {});
          if (cancelled) anew.cancel();
          same(
            seed,
            nodes.map((_, node) => anew.state(node)),
            now,
          );
          same(seed, anew.standing, progress.standing);
          same(seed, sorted(drain(anew)), fullPlan(nodes, now, cancelled).startable);
        }
      }
      outcomes.set(progress.standing, (outcomes.get(progress.standing) ?? 0) + 1);
    }
    // Not vacuous: every end of a run is among them.
    expect([...outcomes.keys()].sort()).toEqual(['cancelled', 'failed', 'succeeded']);
    expect(Math.min(...outcomes.values())).toBeGreaterThan(100);
  });

  it('costs an end what its dependents cost: 20 000 nodes in a chain, or behind one, within moments', () => {
    const chain = compileGraph(
      Array.from({ length: 20_000 }, (_, i) => ({ id: `n${i}`, needs: i === 0 ? [] : [`n${i - 1}`] })),
    );
    const progress = new RunProgress(chain, [], () => {});
    for (let i = 0; i < 20_000; i++) {
      const node = progress.take()!;
      progress.start(node);
      progress.end(node, 'succeeded');
    }
    expect(progress.standing).toBe('succeeded');
    const skipped: number[] = [];
    const failing = new RunProgress(chain, [], (node) => skipped.push(node));
    failing.skip(failing.take()!, 'no');
    expect(skipped).toHaveLength(20_000);
  });
});

describe('what a retry runs again', () => {
  const graph = compileGraph([
    { id: 'a', needs: [] },
    { id: 'b', needs: ['a'], onFailure: 'continue' },
    { id: 'c', needs: ['b'] },
    { id: 'd', needs: ['a'] },
  ]);

  it('is what did not succeed and what follows it; the rest keeps what it has', () => {
    expect(planRetryFrom(graph, ['succeeded', 'failed', 'succeeded', 'succeeded'], [])).toEqual({
      again: [1, 2],
      whole: [2],
    });
    expect(planRetryFrom(graph, ['succeeded', 'succeeded', 'succeeded', 'failed'], []).again).toEqual([3]);
  });

  it('is the chosen node with all that follows it, and beside it what did not succeed', () => {
    expect(planRetryFrom(graph, ['succeeded', 'succeeded', 'succeeded', 'succeeded'], [1])).toEqual({
      again: [1, 2],
      whole: [1, 2],
    });
    expect(planRetryFrom(graph, ['succeeded', 'succeeded', 'succeeded', 'failed'], [2]).again).toEqual([2, 3]);
  });
});
