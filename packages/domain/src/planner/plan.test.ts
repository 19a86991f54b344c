import { describe, expect, it } from 'vitest';
import { completeResources, type ResourceRequest } from '../resources.ts';
import { PLACEMENTS, type Placement } from './placement.ts';
import { type PlanOptions, plan } from './plan.ts';
import { adaptiveScore, loadOf, NEW_RECORD, recordAfter, STRATEGIES, type Strategy } from './strategy.ts';
import type { OfferingWorker, ReadyTask } from './worker.ts';

const GIB = 2 ** 30;

function worker(id: string, more: Partial<OfferingWorker> = {}): OfferingWorker {
  const empty = { busy: 0, ...NEW_RECORD, warm: new Set<string>(), affinity: new Map() };
  const devices = more.devices ?? [];
  const slots = more.slots ?? 9;
  return {
    id,
    name: id,
    slots,
    resourceSlots: slots,
    cpus: 16,
    memoryBytes: 64 * GIB,
    gpus: devices.length,
    ...empty,
    ...more,
    devices,
  };
}

const gpu = (uuid: string, gib: number, model = 'NVIDIA A100-SXM4-80GB') => ({ uuid, model, memoryBytes: gib * GIB });

let positions = 0;
function task(id: string, resources: ResourceRequest | null = null, more: Partial<ReadyTask> = {}): ReadyTask {
  const position = String(++positions);
  const complete = resources && completeResources(resources, 'cpu_short');
  return { id, laneId: positions, kind: 'paint', priority: 0, position, resources: complete, ...more };
}

function granted(tasks: ReadyTask[], workers: OfferingWorker[], options: Partial<PlanOptions> = {}): string[] {
  const { grants } = plan(tasks, workers, { strategy: 'priority', placement: 'best_fit', fit: () => true, ...options });
  return grants.map(({ taskId, workerId, devices }) => [taskId, workerId, ...devices].join(' '));
}

describe('devices that are next', () => {
  const next = (uuid: string, gib: number) => ({ ...gpu(uuid, gib), isNext: true });

  it('are waited for by who asks for one device and can begin nowhere, one each, without a slot for resources', () => {
    const busy = () => worker('busy', { resourceSlots: 0, devices: [next('n1', 80)] });
    const free = worker('free', { devices: [gpu('f1', 16)] });
    const tasks = () => ['t1', 't2', 't3'].map((id) => task(id, { gpus: 1 }));
    expect(granted(tasks(), [busy(), free])).toEqual(['t1 free f1', 't2 busy n1']);
    expect(granted([task('large', { gpus: 1, gpuMemoryBytes: 64 * GIB })], [free, busy()])).toEqual(['large busy n1']);
    expect(granted([task('plain', { cpus: 1 })], [busy()])).toEqual([]);
    expect(granted([task('full', { gpus: 1, cpus: 17 })], [busy()])).toEqual([]);
    expect(granted(tasks(), [{ ...busy(), slots: 0 }])).toEqual([]);
  });

  it('are not for tasks of several devices', () => {
    const mixed = worker('mixed', { devices: [gpu('f1', 80), next('n1', 80)] });
    expect(granted([task('two', { gpus: 2 })], [mixed])).toEqual([]);
    const both = worker('both', { devices: [next('n1', 80), next('n2', 80)] });
    expect(granted([task('two', { gpus: 2 })], [both])).toEqual([]);
  });
});

describe('strategies', () => {
  const tasks = () => [
    task('old', null, { position: '1' }),
    task('urgent', null, { position: '2', priority: 5 }),
    task('new', null, { position: '3' }),
  ];
  const workers = [
    worker('a', { slots: 3, gpus: 1, busy: 1, completed: 50, averageMs: 4_000 }),
    worker('b', { slots: 3, gpus: 1, completed: 10, failed: 3, averageMs: 100 }),
    worker('c', { slots: 3, gpus: 2, busy: 1, completed: 5, failed: 10, averageMs: 10_000 }),
  ];
  const expected: Record<Exclude<Strategy, 'work_stealing'>, string[]> = {
    fifo: ['old a', 'urgent a', 'new a'],
    priority: ['urgent c', 'old c', 'new c'],
    round_robin: ['urgent a', 'old b', 'new c'],
    load_balancing: ['urgent b', 'old a', 'new b'],
    adaptive: ['urgent b', 'old b', 'new b'],
  };

  it.each(Object.entries(expected))('%s grants what no other grants', (strategy, grants) => {
    expect(granted(tasks(), workers, { strategy: strategy as Strategy })).toEqual(grants);
    const byTask = (list: string[]) => list.toSorted().join();
    for (const [other, others] of Object.entries(expected))
      if (other !== strategy) expect(byTask(others), other).not.toBe(byTask(grants));
  });

  it('work_stealing is another name for the pull that priority is', () => {
    expect(granted(tasks(), workers, { strategy: 'work_stealing' })).toEqual(expected.priority);
    expect([...STRATEGIES].sort()).toEqual([...Object.keys(expected), 'work_stealing'].sort());
  });

  it('fifo serves by age alone, the others the higher priority first', () => {
    const one = [worker('a', { slots: 1 })];
    expect(granted(tasks(), one, { strategy: 'fifo' })).toEqual(['old a']);
    for (const strategy of STRATEGIES)
      if (strategy !== 'fifo') expect(granted(tasks(), one, { strategy })).toEqual(['urgent a']);
  });

  it('round_robin goes on behind the last worker of the plan before, passing over who cannot', () => {
    const [first, second] = [tasks(), tasks()];
    const options = { strategy: 'round_robin', placement: 'best_fit', fit: () => true } as const;
    const before = plan(first.slice(0, 2), workers, options);
    expect(before.last).toBe('b');
    const fit = (w: OfferingWorker) => w.name !== 'c';
    expect(granted(second, workers, { ...options, fit, last: before.last })).toEqual(['urgent a', 'old b', 'new a']);
  });

  it('the formulas: load and score', () => {
    expect(loadOf(worker('x', { gpus: 4, failed: 2 }), 6)).toBeCloseTo(6 / 4 + 0.2);
    expect(loadOf(worker('x'), 3)).toBe(3);
    expect(adaptiveScore({ gpus: 2, completed: 3, failed: 1, averageMs: 500 })).toBeCloseTo(1 + 0.225 + 0.1);
    expect(adaptiveScore({ gpus: 0, ...NEW_RECORD })).toBeCloseTo(0.8);
    const once = recordAfter(NEW_RECORD, true, 1_000);
    expect(recordAfter(once, false, 2_000)).toEqual({ completed: 1, failed: 1, averageMs: 1_100 });
  });
});

describe('placement', () => {
  const devices = [gpu('mid', 40), gpu('small', 24), gpu('large', 80)];
  it.each<[Placement, string]>([
    ['first_fit', 'mid'],
    ['best_fit', 'small'],
    ['worst_fit', 'large'],
  ])('%s over the devices of a worker', (placement, device) => {
    const tasks = [task('t', { gpus: 1, gpuMemoryBytes: 20 * GIB })];
    expect(granted(tasks, [worker('a', { devices })], { placement })).toEqual([`t a ${device}`]);
  });

  it.each<[Placement, string]>([
    ['first_fit', 'first'],
    ['best_fit', 'tight'],
    ['worst_fit', 'wide'],
  ])('%s over workers', (placement, name) => {
    const ofGpus = [
      worker('first', { devices: [gpu('g1', 40)] }),
      worker('tight', { devices: [gpu('g2', 24)] }),
      worker('wide', { devices: [gpu('g3', 80)] }),
    ];
    expect(granted([task('t', { gpus: 1 })], ofGpus, { placement })[0]).toMatch(`t ${name} `);
    const ofMemory = [
      worker('first', { memoryBytes: 16 * GIB }),
      worker('tight', { memoryBytes: 8 * GIB }),
      worker('wide', { memoryBytes: 32 * GIB }),
    ];
    expect(granted([task('t', {})], ofMemory, { placement })).toEqual([`t ${name}`]);
  });

  it('best_fit keeps machines with devices for those that need them', () => {
    const workers = [worker('gpus', { devices, memoryBytes: 8 * GIB }), worker('plain')];
    expect(granted([task('t', {})], workers)).toEqual(['t plain']);
  });

  it('several devices are of one worker, all or none', () => {
    const two = [worker('a', { devices: [gpu('a1', 24)] }), worker('b', { devices: [gpu('b1', 24)] })];
    expect(granted([task('pair', { gpus: 2 })], two)).toEqual([]);
    const with3 = [...two, worker('c', { devices: [gpu('c1', 80), gpu('c2', 24), gpu('c3', 40)] })];
    expect(granted([task('pair', { gpus: 2 })], with3)).toEqual(['pair c c2 c3']);
  });

  it('a device is given once, memory and CPUs are counted down, and what has no place is passed over', () => {
    const tasks = [
      task('g1', { gpus: 1 }),
      task('g2', { gpus: 1 }),
      task('m1', { memoryBytes: 50 * GIB }),
      task('m2', { memoryBytes: 50 * GIB }),
      task('c1', { cpus: 14, memoryBytes: 0 }),
      task('small', { cpus: 0.5, memoryBytes: 0 }),
      task('plain'),
    ];
    const one = [worker('a', { devices: [gpu('only', 24)] })];
    expect(granted(tasks, one)).toEqual(['g1 a only', 'm1 a', 'c1 a', 'plain a']);
  });

  it('tasks with resources are for slots of their own, and a worker may take up less for one', () => {
    const tasks = [task('r1', {}), task('r2', {}), task('plain')];
    expect(granted(tasks, [worker('a', { slots: 3, resourceSlots: 1 })])).toEqual(['r1 a', 'plain a']);
    expect(granted([task('g', { gpus: 1 })], [worker('a')])).toEqual([]);
    expect(granted([task('g', { gpus: 1 })], [worker('a')], { fit: () => ({ resources: null }) })).toEqual(['g a']);
  });

  it('memory and model of devices are asked of each', () => {
    const mixed = [worker('a', { devices: [gpu('old', 16, 'Tesla V100'), gpu('new', 80, 'NVIDIA H100 PCIe')] })];
    for (const placement of PLACEMENTS) {
      expect(granted([task('t', { gpuMemoryBytes: 40 * GIB })], mixed, { placement })).toEqual(['t a new']);
      expect(granted([task('t', { gpuModel: 'v100' })], mixed, { placement })).toEqual(['t a old']);
      expect(granted([task('t', { gpuModel: 'h10' })], mixed, { placement })).toEqual([]);
      expect(granted([task('t', { gpus: 2, gpuMemoryBytes: 17 * GIB })], mixed, { placement })).toEqual([]);
    }
  });
});

describe('what is preferred', () => {
  const devices = [gpu('g1', 24), gpu('g2', 80)];

  it('a warm worker goes before strategy and placement, and never above a hard requirement', () => {
    const workers = [worker('cold', { devices }), worker('warm', { devices, warm: new Set(['paint']) })];
    expect(granted([task('t', { gpus: 1 })], workers, { strategy: 'round_robin' })).toEqual(['t warm g1']);
    const fit = (w: OfferingWorker) => w.name !== 'warm';
    expect(granted([task('t', { gpus: 1 })], workers, { fit })).toEqual(['t cold g1']);
    const full = [workers[0]!, { ...workers[1]!, devices: [] }];
    expect(granted([task('t', { gpus: 1 })], full)).toEqual(['t cold g1']);
  });

  it('the devices that the kind had last go before the placement, and never above a hard requirement', () => {
    const affinity = new Map([['paint', ['g2']]]);
    const workers = [worker('a', { devices: [gpu('g0', 24)] }), worker('b', { devices, affinity })];
    expect(granted([task('t', { gpus: 1 })], workers)).toEqual(['t b g2']);
    expect(granted([task('t', { gpus: 1 }, { kind: 'other' })], workers)[0]).not.toContain('g2');
    const fit = () => ({ mayUse: (uuid: string) => uuid !== 'g2' });
    expect(granted([task('t', { gpus: 1 })], workers, { fit })).toEqual(['t a g0']);
  });
});

it('no plan gives more than there is, whatever is asked', () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  for (let round = 0; round < 300; round++) {
    const workers = Array.from({ length: 1 + random(4) }, (_, w) =>
      worker(`w${w}`, {
        slots: random(5),
        cpus: random(8),
        memoryBytes: random(32) * GIB,
        devices: Array.from({ length: random(5) }, (_, d) => gpu(`w${w}d${d}`, 8 * (1 + random(4)))),
      }),
    );
    const tasks = Array.from({ length: random(20) }, (_, t) =>
      task(`t${t}`, random(3) ? { cpus: random(4), memoryBytes: random(16) * GIB, gpus: random(4) } : null, {
        laneId: random(6),
        priority: random(3),
      }),
    );
    // One lane is one demand.
    const byLane = new Map<number, ReadyTask['resources']>();
    const alike = tasks.map((t) => {
      if (!byLane.has(t.laneId)) byLane.set(t.laneId, t.resources);
      return { ...t, resources: byLane.get(t.laneId)! };
    });
    const strategy = STRATEGIES[random(STRATEGIES.length)]!;
    const placement = PLACEMENTS[random(3)]!;
    const { grants } = plan(alike, workers, { strategy, placement, fit: () => true });
    expect(new Set(grants.map((g) => g.taskId)).size).toBe(grants.length);
    const given = grants.flatMap((g) => g.devices);
    expect(new Set(given).size).toBe(given.length);
    for (const w of workers) {
      const mine = grants.filter((g) => g.workerId === w.id);
      const of = mine.map((g) => ({ g, r: alike.find((t) => t.id === g.taskId)!.resources }));
      expect(mine.length).toBeLessThanOrEqual(w.slots);
      expect(of.reduce((sum, { r }) => sum + (r?.cpus ?? 0), 0)).toBeLessThanOrEqual(w.cpus);
      expect(of.reduce((sum, { r }) => sum + (r?.memoryBytes ?? 0), 0)).toBeLessThanOrEqual(w.memoryBytes);
      for (const { g, r } of of) {
        expect(g.devices).toHaveLength(r?.gpus ?? 0);
        for (const uuid of g.devices) expect(w.devices.some((d) => d.uuid === uuid)).toBe(true);
      }
    }
  }
});
