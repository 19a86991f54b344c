import type { GpuProcess, GpuReading } from '../devices/reading.ts';
import type { XidKind } from '../devices/xid.ts';

/** What can be wrong, by stable names. */
export type IssueCode =
  | 'CPU'
  | 'MEMORY'
  | 'DISK'
  | 'NETWORK_LATENCY'
  /** The driver does not answer: nothing is known of the devices. */
  | 'GPU_DRIVER'
  /** One device does not answer. */
  | 'GPU_LOST'
  | 'GPU_TEMPERATURE'
  | 'GPU_MEMORY'
  | 'GPU_ECC'
  | 'GPU_XID'
  /** Processes without a lease hold memory of a device. */
  | 'GPU_ORPHAN_MEMORY'
  /** The master keeps tasks away from it: its breaker is open. */
  | 'GPU_BREAKER'
  /** No device can be used, of a worker that takes GPU tasks only. */
  | 'GPU_NONE';

/** One thing that is wrong. */
export interface HealthIssue {
  readonly code: IssueCode;
  readonly message: string;
  /** What was measured, and the limit; null where there is no number. */
  readonly value: number | null;
  readonly threshold: number | null;
  /** The device that it is about; null: the machine. */
  readonly device: string | null;
}

/** A closed gate: no new work (`device` null), or none on one device. */
export interface ClosedGate {
  readonly code: 'CPU' | 'MEMORY' | 'GPU_MEMORY' | 'GPU_NONE';
  readonly message: string;
  readonly value: number | null;
  readonly limit: number | null;
  readonly device: string | null;
}

export interface XidEvent {
  readonly xid: number;
  readonly kind: XidKind;
  readonly meaning: string;
  /** Of the wall clock. */
  readonly atMs: number;
}

/** A device, and how it feels. What is not known is null. */
export interface GpuHealth extends Omit<GpuReading, 'xids' | 'processes'> {
  /** The values are of a reading that the driver gave; false: it does not answer, and they are null. */
  readonly known: boolean;
  readonly usable: boolean;
  /** Why it is not usable. */
  readonly reason: string | null;
  /** Held by processes without a lease; null: not known. */
  readonly foreignMemoryBytes: number | null;
  readonly processes: readonly (GpuProcess & { readonly own: boolean })[] | null;
  /** The newest last. */
  readonly xids: readonly XidEvent[];
}

/** How a machine feels, at one moment. */
export interface HealthReport {
  /** Of the wall clock. */
  readonly atMs: number;
  /** No issue. */
  readonly healthy: boolean;
  readonly issues: readonly HealthIssue[];
  readonly gates: readonly ClosedGate[];
  readonly cpuPercent: number | null;
  readonly foreignCpuPercent: number | null;
  readonly memoryPercent: number | null;
  readonly foreignMemoryPercent: number | null;
  readonly diskPercent: number | null;
  readonly networkLatencyMs: number | null;
  /** Where the devices are read from. */
  readonly source: string;
  /** Devices are declared and not there. */
  readonly simulated: boolean;
  readonly gpus: readonly GpuHealth[];
}

/** What a chart needs of a report. */
export type HealthSample = Pick<
  HealthReport,
  'atMs' | 'healthy' | 'cpuPercent' | 'foreignCpuPercent' | 'memoryPercent' | 'diskPercent' | 'networkLatencyMs'
> & {
  /** Codes, each once. */
  readonly issues: readonly IssueCode[];
  readonly gpus: readonly Pick<GpuHealth, 'uuid' | 'loadPercent' | 'temperatureC' | 'memoryUsedBytes' | 'powerWatts'>[];
};

export function toSample(report: HealthReport): HealthSample {
  const { atMs, healthy, cpuPercent, foreignCpuPercent, memoryPercent, diskPercent, networkLatencyMs, gpus } = report;
  return {
    atMs,
    healthy,
    issues: [...new Set(report.issues.map((issue) => issue.code))],
    cpuPercent,
    foreignCpuPercent,
    memoryPercent,
    diskPercent,
    networkLatencyMs,
    gpus: gpus.map(({ uuid, loadPercent, temperatureC, memoryUsedBytes, powerWatts }) => ({
      uuid,
      loadPercent,
      temperatureC,
      memoryUsedBytes,
      powerWatts,
    })),
  };
}
