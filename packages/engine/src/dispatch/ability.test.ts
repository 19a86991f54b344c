import { completeResources, type ResourceRequest } from '@baton/domain';
import type { Lane } from '@baton/store';
import { describe, expect, it } from 'vitest';
import { type Ability, canDo, missingFor } from './ability.ts';

const lane: Lane = {
  id: 1,
  routeId: 1,
  namespaceId: 1,
  queue: 'default',
  kind: 'train',
  executor: 'function',
  taskClass: 'cpu_short',
  tags: [],
  needs: null,
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
  workerId: 1,
  protocolVersion: 2,
  memoryBytes: 16,
  cpus: 4,
  os: 'linux',
  arch: 'x64',
  hostname: 'box',
  slots: 4,
  tools: [{ name: 'ffmpeg', version: '5.1' }],
  gpus: [],
  quarantinedDevices: [],
};

const GIB = 2 ** 30;
const gpus = (...bytes: number[]) =>
  bytes.map((memoryBytes, i) => ({ uuid: `g${i}`, memoryBytes, model: 'NVIDIA A100', simulated: true, mig: false }));
const ON_GPU4: Partial<Ability> = { gpus: gpus(8 * GIB, 8 * GIB), protocolVersion: 4, memoryBytes: 64 * GIB };
const resources = (request: ResourceRequest) => completeResources(request, 'cpu_short');
const GPU: Partial<Lane> = { taskClass: 'gpu' };
const ON_GPU: Partial<Ability> = { taskClasses: ['cpu_short', 'gpu'], gpus: gpus(8 * GIB, 8 * GIB) };

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
    ['more memory than it has', { tags: ['memory>16'] }, {}, false],
    ['less memory than it has', { tags: ['memory>15'] }, {}, true],
    ['less memory than it has, while it has not said how much', { tags: ['memory>0'] }, { memoryBytes: 0 }, false],
    ['a claim to have more memory', { tags: ['memory>16'] }, { tags: ['memory>16'] }, false],
    ['GPU memory, by its largest', { tags: ['gpu_memory>7'] }, { gpus: gpus(4, 8) }, true],
    ['more GPU memory than its largest has', { tags: ['gpu_memory>8'] }, { gpus: gpus(4, 8) }, false],
    ['a protocol newer than it speaks', { tags: ['protocol>1'] }, { protocolVersion: 1 }, false],
    ['a protocol that it speaks', { tags: ['protocol>1'] }, {}, true],
    ['a claim to speak it', { tags: ['protocol>2'] }, { tags: ['protocol>2'] }, false],
    ['a tag that only looks like a floor', { tags: ['memory>much'] }, { tags: ['memory>much'] }, true],
    ['a system that it has, in other words', { needs: { os: ['darwin', 'linux'] } }, {}, true],
    ['a system that it has not', { needs: { os: ['windows'] } }, {}, false],
    ['a tool of a version', { needs: { tools: ['ffmpeg>=5'] } }, {}, true],
    ['a tool of a newer version', { needs: { tools: ['ffmpeg>=6'] } }, {}, false],
    ['a selector that means it', { needs: { selector: 'worker.tags.exists(t, t == "linux")' } }, {}, true],
    ['a selector that means others', { needs: { selector: 'worker.cpus > 4' } }, {}, false],
    ['a selector that has no value for it', { needs: { selector: 'worker.tools.git == "2"' } }, {}, false],
    ['a selector of a device', { needs: { selector: 'gpu.memory_gib >= 8' } }, ON_GPU, true],
    ['a selector of a device, without one', { needs: { selector: 'gpu.memory_gib >= 0' } }, {}, false],
    ['resources that it has', { needs: { resources: resources({ gpus: 2 }) } }, ON_GPU4, true],
    ['resources, by a protocol that knows none', { needs: { resources: resources({}) } }, { cpus: 8 }, false],
    ['more CPUs than it has', { needs: { resources: resources({ cpus: 5 }) } }, ON_GPU4, false],
    ['more devices than it has', { needs: { resources: resources({ gpus: 3 }) } }, ON_GPU4, false],
    ['a larger device', { needs: { resources: resources({ gpus: 1, gpuMemoryBytes: 9 * GIB }) } }, ON_GPU4, false],
    [
      'two devices, and all quarantined but one',
      { needs: { resources: resources({ gpus: 2 }) } },
      { ...ON_GPU4, quarantinedDevices: ['g0'] },
      false,
    ],
    ['a GPU too small for the class', GPU, { ...ON_GPU, gpus: gpus(GIB) }, false],
    ['a GPU, one of two quarantined', GPU, { ...ON_GPU, quarantinedDevices: ['g0'] }, true],
    ['a GPU, all quarantined', GPU, { ...ON_GPU, quarantinedDevices: ['g0', 'g1'] }, false],
    ['a CPU, all GPUs quarantined', {}, { ...ON_GPU, quarantinedDevices: ['g0', 'g1'] }, true],
    ['a GPU elsewhere, through a worker without one', GPU, { taskClasses: ['gpu'] }, true],
    ['a queue it does not take from', { queue: 'night' }, { queues: ['day'] }, false],
    ['a queue it takes from', { queue: 'night' }, { queues: ['day', 'night'] }, true],
  ];
  for (const [name, laneMore, abilityMore, expected] of cases)
    it(`${expected ? 'yes' : 'no'}: ${name}`, () => {
      expect(canDo({ ...ability, ...abilityMore }, { ...lane, ...laneMore })).toBe(expected);
    });

  it('is what is said of what is missing, but for namespaces and devices', () => {
    for (const [name, laneMore, abilityMore, expected] of cases) {
      if (name === 'another namespace' || name.includes('all quarantined')) continue;
      const missing = missingFor({ ...ability, ...abilityMore }, { ...lane, ...laneMore });
      expect([name, missing.length === 0]).toEqual([name, expected]);
    }
  });
});

describe('what is missing', () => {
  it.each<[string[], Partial<Lane>]>([
    [[], {}],
    [['task_class:gpu'], { taskClass: 'gpu' }],
    [['kind:paint'], { kind: 'paint' }],
    [['executor:http'], { executor: 'http', kind: 'paint' }],
    [['tag:cuda', 'tag:ssd'], { tags: ['cuda', 'linux', 'ssd'] }],
    [['tag:worker:bob'], { tags: ['worker:bob'] }],
    [['memory>16'], { tags: ['memory>15', 'memory>16'] }],
    [['protocol>2'], { tags: ['protocol>1', 'protocol>2'] }],
    [['task_class:gpu', 'kind:paint', 'tag:ssd'], { taskClass: 'gpu', kind: 'paint', tags: ['ssd'] }],
  ])('is named: %j', (missing, laneMore) => {
    expect(missingFor(ability, { ...lane, ...laneMore })).toEqual(missing);
  });
  it('is named: a queue', () => {
    expect(missingFor({ ...ability, queues: ['day'] }, { ...lane, queue: 'night' })).toEqual(['queue:night']);
  });
});
