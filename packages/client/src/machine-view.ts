import type { HealthSample, MachineHealth } from '@baton/contract';
import { optionalDate } from './calls/time.ts';

/** One thing that is wrong with a machine, or a closed gate; `limit` is what was exceeded. */
export interface HealthIssueView {
  readonly code: string;
  readonly message: string;
  readonly value?: number;
  readonly limit?: number;
  /** UUID of the device that it is about; absent: the machine. */
  readonly device?: string;
}

/** A device, and how it feels. What is not known is absent and not 0. */
export interface GpuHealthView {
  readonly uuid: string;
  readonly index: number;
  readonly model: string;
  readonly memoryBytes: number;
  /** Of a slice (MIG): the whole device. */
  readonly migParentUuid?: string;
  /** Declared and not there. */
  readonly simulated: boolean;
  /** False: the driver does not answer. */
  readonly known: boolean;
  readonly usable: boolean;
  /** Why it is not usable. */
  readonly reason?: string;
  readonly loadPercent?: number;
  readonly temperatureC?: number;
  readonly memoryUsedBytes?: number;
  /** Held without a lease. */
  readonly foreignMemoryBytes?: number;
  readonly powerWatts?: number;
  readonly powerLimitWatts?: number;
  readonly eccCorrected?: number;
  readonly eccUncorrected?: number;
  readonly processes: readonly { readonly pid: number; readonly memoryBytes?: number; readonly own: boolean }[];
  readonly xids: readonly {
    readonly xid: number;
    readonly kind: string;
    readonly meaning: string;
    readonly time?: Date;
  }[];
}

/** How a worker's machine feels. Percentages are 0 to 100. */
export interface MachineHealthView {
  /** No issue. */
  readonly healthy: boolean;
  readonly issues: readonly HealthIssueView[];
  /** Closed ones: why it takes no new work, or none on a device. */
  readonly gates: readonly HealthIssueView[];
  readonly cpuPercent?: number;
  /** Without the worker's own processes. */
  readonly foreignCpuPercent?: number;
  readonly memoryPercent?: number;
  readonly foreignMemoryPercent?: number;
  readonly diskPercent?: number;
  readonly networkLatencyMs?: number;
  /** nvml, nvidia-smi, simulated or none. */
  readonly deviceSource: string;
  readonly simulated: boolean;
  readonly gpus: readonly GpuHealthView[];
  /** Since it was judged. */
  readonly ageMs: number;
}

/** One point of a chart: a minute. */
export interface HealthSampleView {
  readonly time?: Date;
  /** All that was measured in it. */
  readonly healthy: boolean;
  /** Codes. */
  readonly issues: readonly string[];
  readonly cpuPercent?: number;
  readonly foreignCpuPercent?: number;
  readonly memoryPercent?: number;
  readonly diskPercent?: number;
  readonly networkLatencyMs?: number;
  readonly gpus: readonly {
    readonly uuid: string;
    readonly loadPercent?: number;
    readonly temperatureC?: number;
    readonly memoryUsedBytes?: number;
    readonly powerWatts?: number;
  }[];
}

export function machineHealthView(health: MachineHealth): MachineHealthView {
  const { healthy, cpuPercent, foreignCpuPercent, memoryPercent, foreignMemoryPercent, diskPercent, networkLatencyMs } =
    health;
  return {
    healthy,
    issues: health.issues.map(({ code, message, value, threshold, device }) => ({
      code,
      message,
      value,
      limit: threshold,
      device: device || undefined,
    })),
    gates: health.gates.map(({ code, message, value, limit, device }) => ({
      code,
      message,
      value,
      limit,
      device: device || undefined,
    })),
    cpuPercent,
    foreignCpuPercent,
    memoryPercent,
    foreignMemoryPercent,
    diskPercent,
    networkLatencyMs,
    deviceSource: health.deviceSource,
    simulated: health.simulated,
    gpus: health.gpus.map((gpu) => ({
      uuid: gpu.uuid,
      index: gpu.index,
      model: gpu.model,
      memoryBytes: Number(gpu.memoryBytes),
      migParentUuid: gpu.migParentUuid || undefined,
      simulated: gpu.simulated,
      known: gpu.known,
      usable: gpu.usable,
      reason: gpu.reason || undefined,
      loadPercent: gpu.loadPercent,
      temperatureC: gpu.temperatureC,
      memoryUsedBytes: optionalNumber(gpu.memoryUsedBytes),
      foreignMemoryBytes: optionalNumber(gpu.foreignMemoryBytes),
      powerWatts: gpu.powerWatts,
      powerLimitWatts: gpu.powerLimitWatts,
      eccCorrected: optionalNumber(gpu.eccCorrected),
      eccUncorrected: optionalNumber(gpu.eccUncorrected),
      processes: gpu.processes.map(({ pid, memoryBytes, own }) => ({
        pid,
        memoryBytes: optionalNumber(memoryBytes),
        own,
      })),
      xids: gpu.xids.map(({ xid, kind, meaning, time }) => ({ xid, kind, meaning, time: optionalDate(time) })),
    })),
    ageMs: Number(health.ageMs),
  };
}

export function healthSampleView(sample: HealthSample): HealthSampleView {
  const { healthy, issues, cpuPercent, foreignCpuPercent, memoryPercent, diskPercent, networkLatencyMs, gpus } = sample;
  return {
    time: optionalDate(sample.time),
    healthy,
    issues,
    cpuPercent,
    foreignCpuPercent,
    memoryPercent,
    diskPercent,
    networkLatencyMs,
    gpus: gpus.map(({ uuid, loadPercent, temperatureC, memoryUsedBytes, powerWatts }) => ({
      uuid,
      loadPercent,
      temperatureC,
      memoryUsedBytes: optionalNumber(memoryUsedBytes),
      powerWatts,
    })),
  };
}

function optionalNumber(value: bigint | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
