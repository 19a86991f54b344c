import { describe, expect, it } from 'vitest';
import { definitionOf, nodesFile, seededRandom } from './definition.fixture.ts';
import { InvalidDefinitionError, type NodeState, planRetry, planRun, topologicalWaves } from './plan-run.ts';

const diamond = definitionOf(nodesFile({ a: [], b: ['a'], c: ['a'], d: ['b', 'c'], lone: [] }));

function states(given: Readonly<Record<string, NodeState>>): Map<string, NodeState> {
  return new Map(Object.entries(given));
}

describe('the plan of a run', () => {
  it('begins with every node that needs nothing', () => {
    expect(planRun(diamond, new Map())).toEqual({ ready: ['a', 'lone'], skip: [], runState: 'running', failed: [] });
  });

  it('starts a node when all that it needs has succeeded, and not before', () => {
    const running = states({ a: 'succeeded', b: 'running', lone: 'running' });
    expect(planRun(diamond, running)).toMatchObject({ ready: ['c'], runState: 'running' });
    expect(planRun(diamond, states({ a: 'succeeded', b: 'succeeded', c: 'running', lone: 'running' })).ready).toEqual(
      [],
    );
    expect(planRun(diamond, states({ a: 'succeeded', b: 'succeeded', c: 'succeeded' })).ready).toEqual(['lone', 'd']);
  });

  it('succeeds when every node has', () => {
    const all = states({ a: 'succeeded', b: 'succeeded', c: 'succeeded', d: 'succeeded', lone: 'succeeded' });
    expect(planRun(diamond, all)).toEqual({ ready: [], skip: [], runState: 'succeeded', failed: [] });
  });

  it('after a failure starts nothing, skips what has not started, and ends when nothing runs', () => {
    const failing = states({ a: 'succeeded', b: 'failed', c: 'running' });
    const stopped = { ready: [], skip: ['lone', 'd'], failed: ['b'] };
    expect(planRun(diamond, failing)).toEqual({ ...stopped, runState: 'running' });
    expect(planRun(diamond, new Map(failing).set('c', 'succeeded'))).toEqual({ ...stopped, runState: 'failed' });
    const over = states({ a: 'succeeded', b: 'failed', c: 'succeeded', d: 'skipped', lone: 'skipped' });
    expect(planRun(diamond, over)).toEqual({ ready: [], skip: [], runState: 'failed', failed: ['b'] });
  });

  it('names every failed node, in the order of the definition', () => {
    expect(planRun(diamond, states({ a: 'succeeded', c: 'failed', b: 'failed' })).failed).toEqual(['b', 'c']);
  });

  it('is cancelled by a cancelled node, unless a node failed as well', () => {
    const cancelled = states({ a: 'succeeded', b: 'cancelled', c: 'succeeded' });
    expect(planRun(diamond, cancelled)).toMatchObject({ ready: [], skip: ['lone', 'd'], runState: 'cancelled' });
    expect(planRun(diamond, new Map(cancelled).set('c', 'failed')).runState).toBe('failed');
    expect(planRun(diamond, new Map(cancelled).set('c', 'running')).runState).toBe('running');
  });

  it('skips only what needs a skipped node when nothing has failed', () => {
    const plan = planRun(diamond, states({ a: 'succeeded', b: 'skipped' }));
    expect(plan).toEqual({ ready: ['lone', 'c'], skip: ['d'], runState: 'running', failed: [] });
    const over = states({ a: 'succeeded', b: 'skipped', c: 'succeeded', d: 'skipped', lone: 'succeeded' });
    expect(planRun(diamond, over).runState).toBe('succeeded');
  });

  it('skips a long way down at once', () => {
    const nodes = [...Array(20_000).keys()].map((index) => ({ id: `${index}`, needs: index ? [`${index - 1}`] : [] }));
    const plan = planRun({ nodes }, states({ 0: 'skipped' }));
    expect(plan.skip).toHaveLength(19_999);
    expect(plan.runState).toBe('succeeded');
  });

  it('plans nodes named as the things that every object has', () => {
    const odd = definitionOf({
      name: 'odd',
      nodes: [
        { id: '__proto__', task: 't' },
        { id: 'constructor', task: 't', needs: ['__proto__'] },
      ],
    });
    expect(planRun(odd, new Map()).ready).toEqual(['__proto__']);
    expect(planRun(odd, new Map([['__proto__', 'succeeded']])).ready).toEqual(['constructor']);
  });

  it('refuses needs that name nobody or run in a circle', () => {
    const nobody = { nodes: [{ id: 'a', needs: ['b'] }] };
    const circle = { nodes: [...nobody.nodes, { id: 'b', needs: ['a'] }] };
    for (const wrong of [nobody, circle]) {
      expect(() => planRun(wrong, new Map())).toThrow(InvalidDefinitionError);
      expect(() => topologicalWaves(wrong)).toThrow(InvalidDefinitionError);
    }
  });

  it('carries random runs to an end that fits what happened, never starting a node too soon', () => {
    for (let seed = 0; seed < 300; seed++) {
      const random = seededRandom(seed);
      const count = 1 + Math.floor(random() * 15);
      const nodes = [...Array(count).keys()].map((index) => ({
        id: `n${index}`,
        needs: [...Array(index).keys()].filter(() => random() < 0.25).map((need) => `n${need}`),
      }));
      const failureRate = seed % 3 === 0 ? 0 : 0.15;
      const now = new Map<string, NodeState>();
      let steps = 0;
      for (;;) {
        const plan = planRun({ nodes }, now);
        for (const id of plan.skip) now.set(id, 'skipped');
        for (const id of plan.ready) {
          const { needs } = nodes.find((node) => node.id === id)!;
          expect(needs.every((need) => now.get(need) === 'succeeded')).toBe(true);
          expect([...now.values()]).not.toContain('failed');
          now.set(id, 'running');
        }
        const running = nodes.filter(({ id }) => now.get(id) === 'running');
        expect(plan.runState === 'running').toBe(running.length > 0);
        if (running.length === 0) {
          const ends = [...now.values()];
          expect(ends).toHaveLength(count);
          expect(plan.runState).toBe(ends.includes('failed') ? 'failed' : 'succeeded');
          expect(plan.runState === 'succeeded').toBe(ends.every((end) => end === 'succeeded'));
          break;
        }
        const done = running[Math.floor(random() * running.length)]!;
        now.set(done.id, random() < failureRate ? 'failed' : 'succeeded');
        expect(steps++).toBeLessThanOrEqual(count);
      }
    }
  });
});

describe('a retry', () => {
  it('takes up what failed, was cancelled or was skipped, and keeps what succeeded', () => {
    const over = states({ a: 'succeeded', b: 'failed', c: 'cancelled', d: 'skipped', lone: 'succeeded' });
    expect(planRetry(diamond, over)).toEqual(['b', 'c', 'd']);
    const again = new Map(over);
    for (const id of planRetry(diamond, over)) again.set(id, 'pending');
    expect(planRun(diamond, again)).toEqual({ ready: ['b', 'c'], skip: [], runState: 'running', failed: [] });
  });

  it('of a run that succeeded takes up nothing', () => {
    expect(planRetry(diamond, new Map(diamond.nodes.map(({ id }) => [id, 'succeeded'])))).toEqual([]);
  });
});

describe('the waves of a definition', () => {
  it('are sorted by id within', () => {
    expect(topologicalWaves(diamond)).toEqual([['a', 'lone'], ['b', 'c'], ['d']]);
  });
});
