/** Where health ends and where gates close. All can be set; units are in the names. */
export interface HealthLimits {
  /** Issues: of what is not the worker's own, above. Default 95. */
  readonly cpuPercent: number;
  /** Of all memory in use, above. Default 95. */
  readonly memoryPercent: number;
  /** Default 95. */
  readonly diskPercent: number;
  /** Of a device's memory, taken by processes without a lease, above. Default 95. */
  readonly gpuMemoryPercent: number;
  /** From here on a device is too hot. Default 85. */
  readonly gpuTemperatureC: number;
  /** Of a connection to the master. Default 1 000. */
  readonly networkLatencyMs: number;
  /** Gates: no new work while what is not the worker's own uses more than this. Default 90. */
  readonly gateCpuPercent: number;
  /** Default 85. */
  readonly gateMemoryPercent: number;
  /** Of a device: from here on no task is given it. Default 80. */
  readonly gateGpuMemoryPercent: number;
  /** How long a value is beyond its limit before a gate closes, or an issue of load is said. Default 30 000. */
  readonly closeAfterMs: number;
  /** How long it is well below (by `slackPercent`) before a gate opens, or an ill device is used again. Default 10 000. */
  readonly openAfterMs: number;
  /** Default 5: percent, or degrees. */
  readonly slack: number;
  /** A device stays in quarantine for so long after the last sign of broken hardware (an XID, an ECC error). Default 300 000. */
  readonly quarantineMs: number;
  /** Memory of a device that outlives its lease is no orphan for so long: drivers take a moment. Default 5 000. */
  readonly orphanGraceMs: number;
  /** The worker drains when the machine has been critical for so long: memory, disk, or no device left for one that takes GPU tasks only. 0: never. Default 600 000. */
  readonly drainAfterMs: number;
}

export const defaultLimits: HealthLimits = Object.freeze({
  cpuPercent: 95,
  memoryPercent: 95,
  diskPercent: 95,
  gpuMemoryPercent: 95,
  gpuTemperatureC: 85,
  networkLatencyMs: 1_000,
  gateCpuPercent: 90,
  gateMemoryPercent: 85,
  gateGpuMemoryPercent: 80,
  closeAfterMs: 30_000,
  openAfterMs: 10_000,
  slack: 5,
  quarantineMs: 300_000,
  orphanGraceMs: 5_000,
  drainAfterMs: 600_000,
});

/**
 * Beyond a limit or not, without flapping: it takes `closeAfterMs` above the limit to begin, and `openAfterMs` below the limit less the
 * slack to end. Between the two it stays as it is.
 */
export class Latch {
  readonly #closeAfterMs: number;
  readonly #openAfterMs: number;
  #isClosed = false;
  /** Since when the other state would be right. */
  #sinceMs: number | undefined;

  constructor(closeAfterMs: number, openAfterMs: number) {
    this.#closeAfterMs = closeAfterMs;
    this.#openAfterMs = openAfterMs;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** @param isBeyond null: not known, and nothing changes */
  update(isBeyond: boolean | null, isWellBelow: boolean, nowMs: number): boolean {
    const wrong = this.#isClosed ? isWellBelow : isBeyond === true;
    if (isBeyond === null || !wrong) {
      this.#sinceMs = undefined;
      return this.#isClosed;
    }
    this.#sinceMs ??= nowMs;
    if (nowMs - this.#sinceMs >= (this.#isClosed ? this.#openAfterMs : this.#closeAfterMs)) {
      this.#isClosed = !this.#isClosed;
      this.#sinceMs = undefined;
    }
    return this.#isClosed;
  }

  /** The same for a value and a limit. */
  measure(value: number | null, limit: number, slack: number, nowMs: number): boolean {
    return this.update(value === null ? null : value > limit, value !== null && value <= limit - slack, nowMs);
  }
}
