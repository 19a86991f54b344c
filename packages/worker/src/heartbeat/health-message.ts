import type { GpuSchema, HealthSampleSchema, MachineHealthSchema, ToolSchema } from '@baton/contract';
import type { GpuReading, HealthReport, HealthSample, Tool } from '@baton/hardware';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';

/** Init shapes: plain values, which can be handed to a thread. */
export type MachineHealthInit = Omit<MessageInitShape<typeof MachineHealthSchema>, '$typeName' | '$unknown'>;

/** A report as the master hears it; `ageMs` is set when it is sent. */
export function healthMessage(report: HealthReport): MachineHealthInit {
  return {
    healthy: report.healthy,
    issues: report.issues.map(({ code, message, value, threshold, device }) => ({
      code,
      message,
      ...some({ value, threshold }),
      device: device ?? '',
    })),
    gates: report.gates.map(({ code, message, value, limit, device }) => ({
      code,
      message,
      ...some({ value, limit }),
      device: device ?? '',
    })),
    ...some({
      cpuPercent: report.cpuPercent,
      foreignCpuPercent: report.foreignCpuPercent,
      memoryPercent: report.memoryPercent,
      foreignMemoryPercent: report.foreignMemoryPercent,
      diskPercent: report.diskPercent,
      networkLatencyMs: report.networkLatencyMs,
    }),
    deviceSource: report.source,
    simulated: report.simulated,
    gpus: report.gpus.map((gpu) => ({
      uuid: gpu.uuid,
      index: gpu.index,
      model: gpu.model,
      memoryBytes: BigInt(gpu.memoryBytes),
      migParentUuid: gpu.mig?.parentUuid ?? '',
      simulated: gpu.simulated,
      known: gpu.known,
      usable: gpu.usable,
      reason: gpu.reason ?? '',
      ...some({
        loadPercent: gpu.loadPercent,
        temperatureC: gpu.temperatureC,
        memoryUsedBytes: big(gpu.memoryUsedBytes),
        foreignMemoryBytes: big(gpu.foreignMemoryBytes),
        powerWatts: gpu.powerWatts,
        powerLimitWatts: gpu.powerLimitWatts,
        eccCorrected: big(gpu.eccCorrected),
        eccUncorrected: big(gpu.eccUncorrected),
      }),
      processes: (gpu.processes ?? []).slice(0, mostProcesses).map(({ pid, memoryBytes, own }) => ({
        pid,
        own,
        ...some({ memoryBytes: big(memoryBytes) }),
      })),
      xids: gpu.xids.map(({ xid, kind, meaning, atMs }) => ({ xid, kind, meaning, time: timestampFromMs(atMs) })),
    })),
  };
}

/** A heartbeat is no place for more. */
const mostProcesses = 100;

export function sampleMessage(sample: HealthSample): MessageInitShape<typeof HealthSampleSchema> {
  const { cpuPercent, foreignCpuPercent, memoryPercent, diskPercent, networkLatencyMs } = sample;
  return {
    time: timestampFromMs(sample.atMs),
    healthy: sample.healthy,
    issues: [...sample.issues],
    ...some({ cpuPercent, foreignCpuPercent, memoryPercent, diskPercent, networkLatencyMs }),
    gpus: sample.gpus.map(({ uuid, loadPercent, temperatureC, memoryUsedBytes, powerWatts }) => ({
      uuid,
      ...some({ loadPercent, temperatureC, memoryUsedBytes: big(memoryUsedBytes), powerWatts }),
    })),
  };
}

export function gpuMessage(gpu: GpuReading): MessageInitShape<typeof GpuSchema> {
  return {
    uuid: gpu.uuid,
    model: gpu.model,
    memoryBytes: BigInt(gpu.memoryBytes),
    simulated: gpu.simulated,
    mig: gpu.mig !== null,
    migParentUuid: gpu.mig?.parentUuid ?? '',
  };
}

export function toolMessage({ name, version }: Tool): MessageInitShape<typeof ToolSchema> {
  return { name, version: version.slice(0, 200) };
}

function big(value: number | null): bigint | null {
  return value === null ? null : BigInt(Math.round(value));
}

/** Those that are known. */
function some<T extends Readonly<Record<string, unknown>>>(values: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)) as never;
}
