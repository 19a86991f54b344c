import { type MachineHealth, MachineHealthSchema } from '@baton/contract';
import type { WorkerHealthRow } from '@baton/engine';
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import type { MetricValue } from './metric-value.ts';

type Gpu = MachineHealth['gpus'][number];

/** Workers beyond this many are left out: a page of metrics is no list. */
export const MOST_WORKERS = 1_000;

const flag = (value: boolean) => (value ? 1 : 0);

const OF_MACHINE: Record<string, { help: string; value: (health: MachineHealth) => number | undefined }> = {
  baton_worker_healthy: { help: 'The machine has no issue: 1; else 0.', value: (h) => flag(h.healthy) },
  baton_worker_gates_closed: { help: 'Closed gates of the worker.', value: (h) => h.gates.length },
  baton_worker_cpu_percent: { help: 'Load of the processors.', value: (h) => h.cpuPercent },
  baton_worker_foreign_cpu_percent: {
    help: "Load of the processors without the worker's own processes.",
    value: (h) => h.foreignCpuPercent,
  },
  baton_worker_memory_percent: { help: 'Memory in use.', value: (h) => h.memoryPercent },
  baton_worker_disk_percent: { help: 'Disk in use.', value: (h) => h.diskPercent },
  baton_worker_network_latency_ms: { help: 'Of a connection to the master.', value: (h) => h.networkLatencyMs },
};

const OF_GPU: Record<string, { help: string; value: (gpu: Gpu) => number | undefined }> = {
  baton_gpu_usable: { help: 'Tasks may be given the device: 1; else 0.', value: (g) => flag(g.usable) },
  baton_gpu_load_percent: { help: 'Load of the device.', value: (g) => g.loadPercent },
  baton_gpu_temperature_celsius: { help: 'Temperature of the device.', value: (g) => g.temperatureC },
  baton_gpu_memory_used_bytes: {
    help: 'Memory of the device in use.',
    value: (g) => optionalNumber(g.memoryUsedBytes),
  },
  baton_gpu_memory_bytes: { help: 'Memory of the device.', value: (g) => Number(g.memoryBytes) },
  baton_gpu_power_watts: { help: 'Power that the device draws.', value: (g) => g.powerWatts },
  baton_gpu_ecc_uncorrected: {
    help: 'Uncorrected ECC errors since the driver was loaded.',
    value: (g) => optionalNumber(g.eccUncorrected),
  },
};

/** Names of the gauges by worker, and by device of a worker. */
export const WORKER_GAUGES: readonly string[] = [...Object.keys(OF_MACHINE), ...Object.keys(OF_GPU)];

/** What is not known has no value and is left out. */
export function workerMetrics(rows: readonly WorkerHealthRow[], wants: (name: string) => boolean): MetricValue[] {
  const machines = rows.map((row) => ({
    labels: { namespace: row.namespace, worker: row.worker },
    health: fromJson(MachineHealthSchema, row.report as JsonValue, { ignoreUnknownFields: true }),
  }));
  const values: MetricValue[] = [];
  for (const [name, { help, value }] of Object.entries(OF_MACHINE))
    if (wants(name))
      for (const { labels, health } of machines) push(values, { name, help, labels, value: value(health) });
  for (const [name, { help, value }] of Object.entries(OF_GPU))
    if (wants(name))
      for (const { labels, health } of machines)
        for (const gpu of health.gpus)
          push(values, {
            name,
            help,
            labels: { ...labels, gpu: gpu.uuid, ...(gpu.simulated && { simulated: 'true' }) },
            value: value(gpu),
          });
  return values;
}

function push(
  values: MetricValue[],
  metric: Omit<MetricValue, 'type' | 'value'> & { value: number | undefined },
): void {
  const { value } = metric;
  if (value !== undefined) values.push({ ...metric, value, type: 'gauge' });
}

function optionalNumber(value: bigint | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
