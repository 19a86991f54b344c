import type { Lane } from '@baton/store';
import { describe, expect, it } from 'vitest';
import { type Ability, canDo } from './lane-book.ts';

const lane: Lane = {
  id: 1,
  routeId: 1,
  namespaceId: 1,
  queue: 'default',
  kind: 'train',
  executor: 'function',
  taskClass: 'cpu_short',
  tags: [],
  paused: false,
};
const ability: Ability = {
  namespaceId: 1,
  workerName: 'Anna',
  taskClasses: ['cpu_short', 'cpu_long'],
  tags: ['linux'],
  executors: ['function', 'grpc'],
  kinds: ['train'],
  queues: [],
};

describe('whether a worker can do a lane', () => {
  const cases: [string, Partial<Lane>, Partial<Ability>, boolean][] = [
    ['everything fits', {}, {}, true],
    ['another namespace', { namespaceId: 2 }, {}, false],
    ['a class it does not take', { taskClass: 'gpu' }, {}, false],
    ['a class it takes', { taskClass: 'gpu' }, { taskClasses: ['gpu'] }, true],
    ['a function nobody registered here', { kind: 'other' }, {}, false],
    ['a kind that is only a name, for other executors', { kind: 'other', executor: 'grpc' }, {}, true],
    ['an executor it does not have', { executor: 'container' }, {}, false],
    ['one of two tags missing', { tags: ['cuda', 'linux'] }, {}, false],
    ['all tags', { tags: ['linux'] }, {}, true],
    ['its own name as a tag, in any case', { tags: ['worker:anna'] }, {}, true],
    ['another name as a tag', { tags: ['worker:bob'] }, {}, false],
    ['a queue it does not take from', { queue: 'night' }, { queues: ['day'] }, false],
    ['a queue it takes from', { queue: 'night' }, { queues: ['day', 'night'] }, true],
  ];
  for (const [name, laneMore, abilityMore, expected] of cases)
    it(`${expected ? 'yes' : 'no'}: ${name}`, () => {
      expect(canDo({ ...ability, ...abilityMore }, { ...lane, ...laneMore })).toBe(expected);
    });
});
