import type { BookedDevice, DeviceBook } from '../devices/device-book.ts';
import type { Devices, DevicesReading, GpuReading } from '../devices/reading.ts';
import { type DeviceUse, DeviceWatch } from './device-watch.ts';
import { defaultLimits, type HealthLimits, Latch } from './limits.ts';
import type { MachineMeter, MachineReading } from './machine-meter.ts';
import { type ClosedGate, type HealthIssue, type HealthReport, type HealthSample, toSample } from './report.ts';

export interface HealthMonitorOptions {
  readonly devices: Devices;
  readonly machine: MachineMeter;
  readonly limits?: Partial<HealthLimits>;
  /** False: gates never close; health is told all the same. Default true. */
  readonly gates?: boolean;
  /** How often it looks. Default 5 000. */
  readonly intervalMs?: number;
  /** Samples that are kept for charts. Default 720: an hour. */
  readonly historyLength?: number;
  /** The worker takes GPU tasks only: without a device there is nothing that it could do. Default false. */
  readonly needsDevice?: boolean;
  /** Devices on which processes are kept without a lease, on purpose: for the next task of the same kind. Default: none. */
  readonly keptDevices?: () => readonly string[];
  /** Milliseconds of a clock that never goes back. Default: the process's. */
  readonly now?: () => number;
  /** Something was judged anew. `hasChanged`: issues, gates or usable devices came or went. */
  readonly onReport?: (report: HealthReport, hasChanged: boolean) => void;
  /** Which devices there are has changed, or what they are. */
  readonly onDevices?: (gpus: readonly GpuReading[]) => void;
  /** Critical for `drainAfterMs`: told once. */
  readonly onCritical?: (reason: string) => void;
}

/** A lease of devices, so far as health is concerned. */
interface DeviceLease {
  count: number;
  releasedAtMs: number | undefined;
  before: Set<number>;
}

const drainCodes: readonly HealthIssue['code'][] = ['MEMORY', 'DISK', 'GPU_NONE'];

/**
 * Watches the machine and its devices, each at its own pace: a driver that hangs delays nothing else. All that is asked of it is
 * answered at once from the newest measurement.
 */
export class HealthMonitor implements DeviceBook {
  readonly #options: HealthMonitorOptions;
  readonly #limits: HealthLimits;
  readonly #intervalMs: number;
  readonly #now: () => number;
  readonly #latches: Readonly<Record<'cpu' | 'memory' | 'disk' | 'network' | 'gateCpu' | 'gateMemory', Latch>>;
  readonly #watches = new Map<string, DeviceWatch>();
  readonly #leases = new Map<string, DeviceLease>();
  #quarantined: ReadonlySet<string> = new Set();
  #gpus: readonly GpuReading[] = [];
  /** XIDs of a reading count once. */
  #freshGpus = false;
  #readAtMs = 0;
  #devices: DevicesReading | undefined;
  #machine: MachineReading | undefined;
  #report: HealthReport | undefined;
  #history: HealthSample[] = [];
  #timer: NodeJS.Timeout | undefined;
  #afterLease: NodeJS.Timeout | undefined;
  #criticalSinceMs: number | undefined;
  #saidCritical = false;
  #machineBusy = false;
  #closed = false;

  constructor(options: HealthMonitorOptions) {
    this.#options = options;
    const limits = { ...defaultLimits, ...options.limits };
    this.#limits = limits;
    this.#intervalMs = options.intervalMs ?? 5_000;
    this.#now = options.now ?? (() => performance.now());
    const latch = () => new Latch(limits.closeAfterMs, limits.openAfterMs);
    this.#latches = {
      cpu: latch(),
      memory: latch(),
      disk: latch(),
      network: latch(),
      gateCpu: latch(),
      gateMemory: latch(),
    };
  }

  /** Looks for the first time, and from then on regularly. Resolves when both have been seen, or after `withinMs`. */
  async start(withinMs = 2_000): Promise<void> {
    const first = Promise.all([this.lookAtMachine(), this.lookAtDevices()]);
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      first,
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, withinMs);
      }),
    ]);
    clearTimeout(timer);
    if (this.#closed) {
      return;
    }
    this.#timer = setInterval(() => {
      void this.lookAtMachine();
      void this.lookAtDevices();
    }, this.#intervalMs);
    this.#timer.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#afterLease);
    await this.#options.devices.close();
  }

  /** The newest judgement. */
  get report(): HealthReport {
    this.#report ??= this.#assess();
    return this.#report;
  }

  /** The devices as they were detected, in the order of their index. */
  get gpus(): readonly GpuReading[] {
    return this.#gpus;
  }

  /** The oldest first. */
  history(): readonly HealthSample[] {
    return this.#history;
  }

  list(): readonly BookedDevice[] {
    return this.report.gpus.map((gpu) => ({
      uuid: gpu.uuid,
      model: gpu.model,
      memoryBytes: gpu.memoryBytes,
      freeMemoryBytes: gpu.memoryUsedBytes === null && gpu.known ? gpu.memoryBytes : free(gpu),
      usable: gpu.usable,
      ...(gpu.reason !== null && { reason: gpu.reason }),
      simulated: gpu.simulated,
    }));
  }

  /** The gate in the way of all new work; undefined: none. */
  get closedGate(): ClosedGate | undefined {
    return this.report.gates.find((gate) => gate.device === null);
  }

  /** A lease has these devices from now on. */
  leaseBegan(devices: readonly string[]): void {
    for (const uuid of devices) {
      const lease = this.#leaseOf(uuid);
      if (lease.count++ === 0) {
        lease.before = new Set(this.#gpus.find((gpu) => gpu.uuid === uuid)?.processes?.map(({ pid }) => pid));
      }
    }
  }

  /** Its code has ended and its processes are dead, as far as the worker knows. Looks whether the devices agree. */
  leaseEnded(devices: readonly string[]): void {
    for (const uuid of devices) {
      const lease = this.#leaseOf(uuid);
      if (--lease.count === 0) {
        lease.releasedAtMs = this.#now();
      }
    }
    if (devices.length > 0 && !this.#closed) {
      clearTimeout(this.#afterLease);
      this.#afterLease = setTimeout(() => void this.lookAtDevices(), this.#limits.orphanGraceMs);
      this.#afterLease.unref();
    }
  }

  /** All devices that the master keeps tasks away from. */
  set quarantined(devices: readonly string[]) {
    if (devices.length !== this.#quarantined.size || devices.some((uuid) => !this.#quarantined.has(uuid))) {
      this.#quarantined = new Set(devices);
      this.#judge();
    }
  }

  async lookAtMachine(): Promise<void> {
    if (this.#machineBusy) {
      return;
    }
    this.#machineBusy = true;
    try {
      this.#machine = await this.#options.machine.sample();
    } finally {
      this.#machineBusy = false;
    }
    this.#judge();
    this.#history.push(toSample(this.report));
    const most = this.#options.historyLength ?? 720;
    if (this.#history.length > most) {
      this.#history.splice(0, this.#history.length - most);
    }
  }

  async lookAtDevices(): Promise<void> {
    const begunMs = this.#now();
    const reading = await this.#options.devices.read();
    if (this.#closed) {
      return;
    }
    const isNew = reading !== this.#devices;
    this.#devices = reading;
    if (reading.state === 'known' && isNew) {
      const before = describe(this.#gpus);
      this.#gpus = reading.gpus;
      this.#freshGpus = true;
      this.#readAtMs = begunMs;
      for (const gpu of reading.gpus) {
        if (!this.#watches.has(gpu.uuid)) {
          this.#watches.set(gpu.uuid, new DeviceWatch(this.#limits, gpu));
        }
      }
      if (describe(reading.gpus) !== before) {
        this.#options.onDevices?.(reading.gpus);
      }
    }
    this.#judge();
  }

  #judge(): void {
    const before = this.#report;
    const report = this.#assess();
    this.#report = report;
    this.#options.onReport?.(report, before === undefined || verdictOf(before) !== verdictOf(report));
    this.#watchCritical(report);
  }

  #assess(): HealthReport {
    const nowMs = this.#now();
    const wallMs = Date.now();
    const issues: HealthIssue[] = [];
    const gates: ClosedGate[] = [];
    if (this.#machine !== undefined) {
      this.#assessMachine(this.#machine, nowMs, issues, gates);
    }
    const reading = this.#devices;
    if (reading?.state === 'unknown') {
      issues.push({ code: 'GPU_DRIVER', message: reading.reason, value: null, threshold: null, device: null });
    }
    const verdicts = this.#gpus.map((gpu) => {
      const watch = this.#watches.get(gpu.uuid)!;
      const seen = this.#freshGpus ? gpu : { ...gpu, xids: [] };
      return reading?.state === 'known'
        ? watch.update(seen, this.#useOf(gpu.uuid), nowMs, wallMs)
        : watch.unknown(this.#useOf(gpu.uuid), reading?.reason ?? 'not asked yet');
    });
    this.#freshGpus = false;
    for (const verdict of verdicts) {
      issues.push(...verdict.issues);
      if (verdict.gate !== null) {
        gates.push(verdict.gate);
      }
    }
    // A machine without any is left alone: there are devices that Baton cannot read.
    const hasSome = verdicts.length > 0 || reading?.state === 'unknown';
    if (this.#options.needsDevice && hasSome && !verdicts.some((verdict) => verdict.health.usable)) {
      const message =
        verdicts.length === 0
          ? 'no device is known, and it takes GPU tasks only'
          : `none of its ${verdicts.length} devices can be used, and it takes GPU tasks only`;
      issues.push({ code: 'GPU_NONE', message, value: null, threshold: null, device: null });
      gates.push({ code: 'GPU_NONE', message, value: null, limit: null, device: null });
    }
    const { source } = this.#options.devices;
    return {
      atMs: wallMs,
      healthy: issues.length === 0,
      issues,
      gates: this.#options.gates === false ? [] : gates,
      cpuPercent: this.#machine?.cpuPercent ?? null,
      foreignCpuPercent: this.#machine?.foreignCpuPercent ?? null,
      memoryPercent: this.#machine?.memoryPercent ?? null,
      foreignMemoryPercent: this.#machine?.foreignMemoryPercent ?? null,
      diskPercent: this.#machine?.diskPercent ?? null,
      networkLatencyMs: this.#machine?.networkLatencyMs ?? null,
      source,
      simulated: source === 'simulated',
      gpus: verdicts.map((verdict) => verdict.health),
    };
  }

  #assessMachine(machine: MachineReading, nowMs: number, issues: HealthIssue[], gates: ClosedGate[]): void {
    const limits = this.#limits;
    const latches = this.#latches;
    const check = (
      latch: Latch,
      code: HealthIssue['code'],
      value: number | null,
      threshold: number,
      slack: number,
      words: (value: number) => string,
    ) => {
      if (latch.measure(value, threshold, slack, nowMs)) {
        issues.push({ code, message: words(value ?? Number.NaN), value, threshold, device: null });
      }
    };
    const { foreignCpuPercent, memoryPercent, foreignMemoryPercent, diskPercent, networkLatencyMs } = machine;
    check(
      latches.cpu,
      'CPU',
      foreignCpuPercent,
      limits.cpuPercent,
      limits.slack,
      (value) => `others use ${value} % of its processors`,
    );
    check(
      latches.memory,
      'MEMORY',
      memoryPercent,
      limits.memoryPercent,
      limits.slack,
      (value) => `${value} % of its memory is in use`,
    );
    check(latches.disk, 'DISK', diskPercent, limits.diskPercent, 1, (value) => `${value} % of its disk is in use`);
    check(
      latches.network,
      'NETWORK_LATENCY',
      networkLatencyMs,
      limits.networkLatencyMs,
      limits.networkLatencyMs / 2,
      (value) => `a connection to the master takes ${value} ms`,
    );
    const gate = (latch: Latch, code: 'CPU' | 'MEMORY', value: number, limit: number, what: string) => {
      if (latch.measure(value, limit, limits.slack, nowMs)) {
        const message = `others than its own tasks use ${value} % of its ${what}, of ${limit} % at most`;
        gates.push({ code, message, value, limit, device: null });
      }
    };
    gate(latches.gateCpu, 'CPU', foreignCpuPercent, limits.gateCpuPercent, 'processors');
    gate(latches.gateMemory, 'MEMORY', foreignMemoryPercent, limits.gateMemoryPercent, 'memory');
  }

  #useOf(uuid: string): DeviceUse {
    const lease = this.#leases.get(uuid);
    return {
      isLeased: lease !== undefined && lease.count > 0,
      releasedAtMs: lease?.releasedAtMs,
      readAtMs: this.#readAtMs,
      before: lease?.before ?? new Set(),
      ownPids: this.#machine?.ownPids ?? new Set([process.pid]),
      workerPid: process.pid,
      isKept: this.#options.keptDevices?.().includes(uuid) ?? false,
      isQuarantined: this.#quarantined.has(uuid),
    };
  }

  #leaseOf(uuid: string): DeviceLease {
    let lease = this.#leases.get(uuid);
    if (lease === undefined) {
      lease = { count: 0, releasedAtMs: undefined, before: new Set() };
      this.#leases.set(uuid, lease);
    }
    return lease;
  }

  #watchCritical(report: HealthReport): void {
    const critical = report.issues.filter((issue) => drainCodes.includes(issue.code));
    const nowMs = this.#now();
    if (critical.length === 0) {
      this.#criticalSinceMs = undefined;
      return;
    }
    this.#criticalSinceMs ??= nowMs;
    const { drainAfterMs } = this.#limits;
    if (drainAfterMs > 0 && nowMs - this.#criticalSinceMs >= drainAfterMs && !this.#saidCritical) {
      this.#saidCritical = true;
      this.#options.onCritical?.(critical.map((issue) => issue.message).join('; '));
    }
  }
}

function free(gpu: { readonly memoryBytes: number; readonly memoryUsedBytes: number | null }): number {
  return gpu.memoryUsedBytes === null ? 0 : Math.max(0, gpu.memoryBytes - gpu.memoryUsedBytes);
}

/** What they are, without how they feel. */
function describe(gpus: readonly GpuReading[]): string {
  return JSON.stringify(gpus.map(({ uuid, model, memoryBytes, mig }) => [uuid, model, memoryBytes, mig]));
}

/** What came or went counts as a change, and not how large a value is. */
function verdictOf({ issues, gates, gpus }: HealthReport): string {
  return JSON.stringify([
    issues.map(({ code, device }) => [code, device]),
    gates.map(({ code, device }) => [code, device]),
    gpus.map(({ uuid, usable }) => [uuid, usable]),
  ]);
}
