import type { GpuProcess, GpuReading } from '../devices/reading.ts';
import { describeXid } from '../devices/xid.ts';
import { type HealthLimits, Latch } from './limits.ts';
import type { ClosedGate, GpuHealth, HealthIssue, XidEvent } from './report.ts';

/** What the worker knows of a device beside what the device says. */
export interface DeviceUse {
  /** Some lease has it now. */
  readonly isLeased: boolean;
  /** When its last lease ended, of the same clock as `nowMs`; undefined: none did. */
  readonly releasedAtMs: number | undefined;
  /** When the reading began that is judged, of the same clock: what it tells may be older than the end of the lease. */
  readonly readAtMs: number;
  /** Processes that were on it before its last lease began. */
  readonly before: ReadonlySet<number>;
  /** This worker's own processes. */
  readonly ownPids: ReadonlySet<number>;
  /** Own processes are kept on it without a lease, on purpose. */
  readonly isKept: boolean;
  /** The worker itself: its function tasks run in it, and it outlives them. */
  readonly workerPid: number;
  /** The master keeps tasks away from it. */
  readonly isQuarantined: boolean;
}

export interface DeviceVerdict {
  readonly health: GpuHealth;
  readonly issues: readonly HealthIssue[];
  readonly gate: ClosedGate | null;
}

const gib = 1024 ** 3;
const mostXids = 20;

/** Judges one device, reading after reading. Knows no clock of its own: times are arguments, in milliseconds. */
export class DeviceWatch {
  readonly #limits: HealthLimits;
  readonly #hot: Latch;
  readonly #lost: Latch;
  readonly #full: Latch;
  readonly #gate: Latch;
  #xids: XidEvent[] = [];
  #hardwareXid: { readonly event: XidEvent; readonly atMs: number } | undefined;
  #eccUncorrected: number | null = null;
  #eccRoseAtMs: number | undefined;
  #last: GpuReading;

  constructor(limits: HealthLimits, first: GpuReading) {
    this.#limits = limits;
    // What is too hot or gone now must not be given to anybody now.
    this.#hot = new Latch(0, limits.openAfterMs);
    this.#lost = new Latch(0, limits.openAfterMs);
    this.#full = new Latch(limits.closeAfterMs, limits.openAfterMs);
    this.#gate = new Latch(0, limits.openAfterMs);
    this.#last = first;
  }

  /** @param wallMs the wall clock at `nowMs` */
  update(gpu: GpuReading, use: DeviceUse, nowMs: number, wallMs: number): DeviceVerdict {
    this.#last = gpu;
    const limits = this.#limits;
    const issues: HealthIssue[] = [];
    const issue = (
      code: HealthIssue['code'],
      message: string,
      value: number | null = null,
      threshold: number | null = null,
    ) => issues.push({ code, message, value, threshold, device: gpu.uuid });
    /** Why no task may have it. */
    const reasons: string[] = [];
    const ill = (
      code: HealthIssue['code'],
      message: string,
      value: number | null = null,
      threshold: number | null = null,
    ) => {
      issue(code, message, value, threshold);
      reasons.push(message);
    };

    if (this.#lost.update(gpu.lost !== null, gpu.lost === null, nowMs)) {
      ill(
        'GPU_LOST',
        gpu.lost === null ? 'it was lost, and answers again since a moment ago' : `it does not answer: ${gpu.lost}`,
      );
    }
    const temperature = gpu.temperatureC;
    const isHot = this.#hot.update(
      temperature === null ? null : temperature >= limits.gpuTemperatureC,
      temperature !== null && temperature <= limits.gpuTemperatureC - limits.slack,
      nowMs,
    );
    if (isHot) {
      const isStill = temperature !== null && temperature >= limits.gpuTemperatureC;
      const message = isStill
        ? `its temperature is ${temperature} °C`
        : `it was too hot, and has ${temperature ?? 'unknown'} °C now`;
      ill('GPU_TEMPERATURE', message, temperature, limits.gpuTemperatureC);
    }
    this.#noteEcc(gpu, nowMs);
    if (gpu.remapFailed === true) {
      ill('GPU_ECC', 'a broken row of its memory could not be replaced');
    } else if (this.#eccRoseAtMs !== undefined && nowMs - this.#eccRoseAtMs < limits.quarantineMs) {
      ill(
        'GPU_ECC',
        `${this.#eccUncorrected} uncorrected ECC errors, the last of them lately`,
        this.#eccUncorrected,
        0,
      );
    }
    this.#noteXids(gpu, nowMs, wallMs);
    if (this.#hardwareXid !== undefined && nowMs - this.#hardwareXid.atMs < limits.quarantineMs) {
      const { xid, meaning } = this.#hardwareXid.event;
      ill('GPU_XID', `XID ${xid}: ${meaning}`, xid);
    }
    if (use.isQuarantined) {
      ill('GPU_BREAKER', 'its circuit breaker is open at the master');
    }
    const isSettling = use.releasedAtMs !== undefined && use.readAtMs - use.releasedAtMs < limits.orphanGraceMs;
    // What the driver has not cleaned up yet is still the lease's.
    const isInUse = use.isLeased || isSettling;
    const foreign = foreignMemory(gpu, use, isInUse);
    if (!isInUse) {
      this.#orphans(gpu, use, issue, ill);
    }
    const foreignPercent = foreign === null || gpu.memoryBytes === 0 ? null : (foreign / gpu.memoryBytes) * 100;
    if (this.#full.measure(foreignPercent, limits.gpuMemoryPercent, limits.slack, nowMs)) {
      issue(
        'GPU_MEMORY',
        `${rounded(foreignPercent)} % of its memory is taken without a lease`,
        rounded(foreignPercent),
        limits.gpuMemoryPercent,
      );
    }
    let gate: ClosedGate | null = null;
    const isBeyond = foreignPercent === null ? null : foreignPercent >= limits.gateGpuMemoryPercent;
    const isWell = foreignPercent !== null && foreignPercent <= limits.gateGpuMemoryPercent - limits.slack;
    if (this.#gate.update(isBeyond, isWell, nowMs)) {
      const message = `${rounded(foreignPercent)} % of its memory is taken without a lease, of ${limits.gateGpuMemoryPercent} % at most`;
      gate = {
        code: 'GPU_MEMORY',
        message,
        value: rounded(foreignPercent),
        limit: limits.gateGpuMemoryPercent,
        device: gpu.uuid,
      };
      reasons.push(message);
    }
    return { health: this.#health(gpu, use, foreign, reasons, true), issues, gate };
  }

  /** While the driver does not answer: what the device is is known, how it feels is not. */
  unknown(use: DeviceUse, reason: string): DeviceVerdict {
    const nothing: GpuReading = {
      ...this.#last,
      memoryUsedBytes: null,
      loadPercent: null,
      temperatureC: null,
      powerWatts: null,
      powerLimitWatts: null,
      eccCorrected: null,
      eccUncorrected: null,
      remapFailed: null,
      processes: null,
    };
    return { health: this.#health(nothing, use, null, [`unknown: ${reason}`], false), issues: [], gate: null };
  }

  #noteEcc(gpu: GpuReading, nowMs: number): void {
    if (gpu.eccUncorrected !== null) {
      // What was counted before this worker looked is history.
      if (this.#eccUncorrected !== null && gpu.eccUncorrected > this.#eccUncorrected) {
        this.#eccRoseAtMs = nowMs;
      }
      this.#eccUncorrected = gpu.eccUncorrected;
    }
  }

  #noteXids(gpu: GpuReading, nowMs: number, wallMs: number): void {
    for (const xid of gpu.xids) {
      const event = { ...describeXid(xid), atMs: wallMs };
      this.#xids = [...this.#xids, event].slice(-mostXids);
      if (event.kind === 'hardware') {
        this.#hardwareXid = { event, atMs: nowMs };
      }
    }
  }

  /** Processes on a device that no lease has: those that the last lease left behind keep the next one away. */
  #orphans(
    gpu: GpuReading,
    use: DeviceUse,
    issue: (code: HealthIssue['code'], message: string, value: number | null) => void,
    ill: (code: HealthIssue['code'], message: string, value: number | null) => void,
  ): void {
    if (gpu.processes === null) {
      return;
    }
    const isLeft = ({ pid }: GpuProcess) =>
      use.ownPids.has(pid) || (use.releasedAtMs !== undefined && !use.before.has(pid));
    const orphans = gpu.processes.filter(({ pid }) => !isKept(pid, use));
    const left = orphans.filter(isLeft);
    const strangers = orphans.filter((each) => !isLeft(each));
    if (left.length > 0) {
      ill('GPU_ORPHAN_MEMORY', `left behind by a lease: ${holders(left)}`, total(left));
    }
    if (strangers.length > 0) {
      issue('GPU_ORPHAN_MEMORY', `without a lease: ${holders(strangers)}`, total(strangers));
    }
  }

  #health(
    gpu: GpuReading,
    use: DeviceUse,
    foreign: number | null,
    reasons: readonly string[],
    known: boolean,
  ): GpuHealth {
    const { processes, xids: _, ...values } = gpu;
    return {
      ...values,
      known,
      usable: reasons.length === 0,
      reason: reasons.length === 0 ? null : reasons.join('; '),
      foreignMemoryBytes: foreign,
      processes: processes?.map((each) => ({ ...each, own: use.ownPids.has(each.pid) })) ?? null,
      xids: this.#xids,
    };
  }
}

/**
 * While no lease has the device, all of its memory that is in use is not the worker's; while one has it, what processes of others hold,
 * as far as the driver tells.
 */
function foreignMemory(gpu: GpuReading, use: DeviceUse, isInUse: boolean): number | null {
  const held = (processes: readonly GpuProcess[]) => processes.reduce((sum, each) => sum + (each.memoryBytes ?? 0), 0);
  if (isInUse) {
    return gpu.processes === null ? null : held(gpu.processes.filter(({ pid }) => use.before.has(pid)));
  }
  const kept = held((gpu.processes ?? []).filter(({ pid }) => isKept(pid, use)));
  return gpu.memoryUsedBytes === null ? null : Math.max(0, gpu.memoryUsedBytes - kept);
}

function isKept(pid: number, use: DeviceUse): boolean {
  return pid === use.workerPid || (use.isKept && use.ownPids.has(pid));
}

function total(processes: readonly GpuProcess[]): number | null {
  return processes.every((each) => each.memoryBytes === null)
    ? null
    : processes.reduce((sum, each) => sum + (each.memoryBytes ?? 0), 0);
}

function holders(processes: readonly GpuProcess[]): string {
  return processes
    .map(
      ({ pid, memoryBytes }) =>
        `process ${pid}${memoryBytes === null ? '' : ` with ${(memoryBytes / gib).toFixed(2)} GiB`}`,
    )
    .join(', ');
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 10) / 10;
}
