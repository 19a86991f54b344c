import { createBaton } from '@baton/client';
import { useStack } from '@baton/testkit/vitest';
import { expect, test } from 'vitest';
import { hold } from './tasks.ts';

const stack = useStack({
  tasksModule: new URL('./tasks.ts', import.meta.url),
  workers: [
    { name: 'large', env: { BATON_SIMULATED_GPUS: '2xA100:40', BATON_WORKER_SLOTS: '8' } },
    { name: 'small', env: { BATON_SIMULATED_GPUS: '1xV100:16', BATON_WORKER_SLOTS: '8' } },
  ],
});
const open = () => createBaton({ url: stack().url });

test('real workers: a device has one task at a time, several are of one worker, and those that are asked for', async () => {
  const baton = open();
  const one = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      baton.enqueue(hold, { ms: 20 }, { resources: { gpus: i % 5 === 0 ? 2 : 1, cpus: 0, memoryBytes: 0 } }),
    ),
  );
  const large = await baton.enqueue(hold, { ms: 1 }, { resources: { gpuModel: 'a100', cpus: 0, memoryGib: 0 } });
  const results = await Promise.all(
    [...one, large].map(async (handle) => ({ id: handle.id, ...(await handle.result()) })),
  );
  const byDevice = new Map<string, { from: number; to: number }[]>();
  for (const [i, { devices, from, to, id }] of results.entries()) {
    expect(devices).toHaveLength(i < 20 && i % 5 === 0 ? 2 : 1);
    const { worker } = await baton.tasks.get(id);
    for (const uuid of devices) {
      const key = `${worker} ${uuid}`;
      byDevice.set(key, [...(byDevice.get(key) ?? []), { from, to }]);
    }
  }
  expect(byDevice.size).toBe(3);
  for (const uses of byDevice.values()) {
    uses.sort((a, b) => a.from - b.from);
    for (let i = 1; i < uses.length; i++) expect(uses[i]!.from).toBeGreaterThanOrEqual(uses[i - 1]!.to);
  }
  expect((await baton.tasks.get(large.id)).worker).toBe('large');
});

test('a task without devices has none, programs see theirs by UUID and others the empty string', async () => {
  const baton = open();
  const plain = await baton.enqueue(hold, { ms: 1 });
  expect((await plain.result()).devices).toEqual([]);
  const command = ['sh', '-c', 'echo "[$CUDA_VISIBLE_DEVICES] $CUDA_DEVICE_ORDER"'];
  const lineOf = async (resources?: { gpus: number; gpuModel: string; cpus: number; memoryGib: number }) => {
    const handle = await baton.submit({ kind: 'see', executor: { type: 'process', command }, resources });
    await handle.result();
    for await (const line of handle.logs()) return line.text;
  };
  expect(await lineOf()).toBe('[] PCI_BUS_ID');
  expect(await lineOf({ gpus: 2, gpuModel: 'A100', cpus: 0, memoryGib: 0 })).toMatch(
    /^\[SIM-[^,]+,SIM-[^,]+\] PCI_BUS_ID$/,
  );
});

test('what no worker could ever do waits, and says which number is too large and the largest there is', async () => {
  const baton = open();
  const { id } = await baton.enqueue(hold, { ms: 1 }, { resources: { gpuMemoryGib: 64, cpus: 0, memoryGib: 0 } });
  const why = await baton.tasks.explain(id);
  expect(why.summary).toContain('64.0 GiB of GPU memory on each device, and the largest there is has 40.0 GiB (large)');
  expect(why.blockers[0]).toMatchObject({ reason: 'RESOURCES_TOO_LARGE', missing: [`gpu_memory>=${64 * 2 ** 30}`] });
  const wrong = { cpus: -1, gpus: 2.5, memoryGib: Number.NaN };
  await expect(baton.enqueue(hold, { ms: 1 }, { resources: wrong })).rejects.toMatchObject({
    code: 'invalid_argument',
    violations: [
      { field: 'task.resources.cpus' },
      { field: 'task.resources.memory_bytes' },
      { field: 'task.resources.gpus' },
    ],
  });
});

test('a task of class gpu has a device, and a selector chooses among them', async () => {
  const baton = open();
  const onGpu = await baton.enqueue(hold, { ms: 1 }, { taskClass: 'gpu' });
  expect((await onGpu.result()).devices).toHaveLength(1);
  const selector = 'gpu.memory_gib < 20 && gpu.simulated';
  const chosen = await baton.enqueue(hold, { ms: 1 }, { taskClass: 'gpu', requires: { selector } });
  await chosen.result();
  expect(await baton.tasks.get(chosen.id)).toMatchObject({ worker: 'small', requires: { selector } });
});
