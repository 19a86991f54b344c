import { describe, expect, it } from 'vitest';
import { definitionOf, nodesFile } from './definition.fixture.ts';
import { InvalidDefinitionError, topologicalWaves } from './waves.ts';

const diamond = definitionOf(nodesFile({ a: [], b: ['a'], c: ['a'], d: ['b', 'c'], lone: [] }));

describe('the waves of a definition', () => {
  it('are refused when needs name nobody or run in a circle', () => {
    const broken = (nodes: { id: string; needs: string[] }[]) => () => topologicalWaves({ nodes });
    expect(broken([{ id: 'a', needs: ['ghost'] }])).toThrow(InvalidDefinitionError);
    expect(
      broken([
        { id: 'a', needs: ['b'] },
        { id: 'b', needs: ['a'] },
      ]),
    ).toThrow(InvalidDefinitionError);
  });

  it('are sorted by id within', () => {
    expect(topologicalWaves(diamond)).toEqual([['a', 'lone'], ['b', 'c'], ['d']]);
  });
});
