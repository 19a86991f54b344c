import type { Cgroup } from './cgroup.ts';
import { hasProcessTable, listPids, readEnvironment, readStat } from './process-table.ts';
import { TAG_VARIABLE } from './tag.ts';

/** Looked at in one go, before the loop turns. */
const chunk = 100;
const defaultKillTimeoutMs = 10_000;

/**
 * All processes that come from one that was started: its group, what carries its tag, what is in its cgroup, and what was once seen below
 * one of these. A child that forks twice, calls setsid and ignores signals is found by its tag; one that clears its environment, too,
 * by its cgroup where there is one, else if it was seen before it did. Without /proc (macOS) there is only the group.
 */
export class ProcessTree {
  readonly pid: number;
  readonly #needle: string;
  readonly #cgroup: Cgroup | undefined;
  /** Start times by pid: of those that were seen once. */
  readonly #known = new Map<number, number>();
  #cpuOfGoneMs = 0;
  #lastCpuMs = 0;

  constructor(pid: number, tag: string, cgroup: Cgroup | undefined) {
    this.pid = pid;
    this.#needle = `${TAG_VARIABLE}=${tag}`;
    this.#cgroup = cgroup;
  }

  /** What is alive now. Looks at every process of the machine: some milliseconds for hundreds of them. */
  async find(): Promise<number[]> {
    if (!hasProcessTable) {
      return isGroupAlive(this.pid) ? [this.pid] : [];
    }
    const found = new Set<number>(this.#cgroup?.members() ?? []);
    const pids = listPids();
    for (let i = 0; i < pids.length; i++) {
      const pid = pids[i]!;
      if (pid !== process.pid && readEnvironment(pid).includes(this.#needle)) {
        found.add(pid);
      }
      if (i % chunk === chunk - 1) {
        await new Promise(setImmediate);
      }
    }
    this.#remember(found);
    return this.#living();
  }

  /** As `find`, by what is cheap: the cgroup, or the families of what is known. */
  look(): number[] {
    if (!hasProcessTable) {
      return isGroupAlive(this.pid) ? [this.pid] : [];
    }
    if (this.#cgroup !== undefined) {
      this.#remember(new Set(this.#cgroup.members()));
      return this.#living();
    }
    const found = new Set<number>([this.pid]);
    const children = new Map<number, number[]>();
    for (const pid of listPids()) {
      const stat = readStat(pid);
      if (stat === undefined) {
        continue;
      }
      if (stat.group === this.pid || stat.session === this.pid) {
        found.add(pid);
      }
      const siblings = children.get(stat.parent);
      if (siblings === undefined) {
        children.set(stat.parent, [pid]);
      } else {
        siblings.push(pid);
      }
    }
    for (const pid of this.#living()) {
      found.add(pid);
    }
    for (const pid of found) {
      for (const child of children.get(pid) ?? []) {
        found.add(child);
      }
    }
    this.#remember(found);
    return this.#living();
  }

  /** Resident memory and processor time of all of them together. Shared pages count for each. */
  usage(): { residentBytes: number; cpuMs: number } {
    let residentBytes = 0;
    let cpuMs = 0;
    for (const pid of this.look()) {
      const stat = readStat(pid);
      residentBytes += stat?.residentBytes ?? 0;
      cpuMs += stat?.cpuMs ?? 0;
    }
    // What has ended no longer counts in the sum; its time was spent all the same.
    this.#cpuOfGoneMs += Math.max(0, this.#lastCpuMs - this.#cpuOfGoneMs - cpuMs);
    this.#lastCpuMs = this.#cpuOfGoneMs + cpuMs;
    return { residentBytes, cpuMs: this.#cgroup?.cpuMs() ?? this.#lastCpuMs };
  }

  /** Resident memory of those that the last look found. Costs no look at the others. */
  knownResidentBytes(): number {
    this.#remember([this.pid]);
    return this.#living().reduce((sum, pid) => sum + (readStat(pid)?.residentBytes ?? 0), 0);
  }

  /** Asks all of them; those that ignore it stay. */
  signal(signal: 'SIGTERM' | 'SIGCONT'): void {
    sendTo(-this.pid, signal);
    for (const pid of this.look()) {
      const stat = readStat(pid);
      if (stat !== undefined && stat.group !== this.pid) {
        sendTo(pid, signal);
      }
    }
  }

  /** Resolves with true when none is left, with false when some could not be killed in time (as in an uninterruptible call of the kernel). */
  async kill(timeoutMs = defaultKillTimeoutMs): Promise<boolean> {
    const until = performance.now() + timeoutMs;
    // At once, before anything is looked for.
    if (this.#cgroup !== undefined) {
      this.#cgroup.kill();
    }
    sendTo(-this.pid, 'SIGKILL');
    for (let round = 0; ; round++) {
      const left = await this.find();
      if (left.length === 0) {
        this.#cgroup?.remove();
        return true;
      }
      if (performance.now() > until) {
        return false;
      }
      this.#cgroup?.kill();
      for (const pid of left) {
        sendTo(hasProcessTable ? pid : -pid, 'SIGKILL');
      }
      await new Promise((resolve) => setTimeout(resolve, Math.min(50, 1 + round * 2)));
    }
  }

  #remember(pids: Iterable<number>): void {
    for (const pid of pids) {
      if (!this.#known.has(pid)) {
        const stat = readStat(pid);
        if (stat !== undefined) {
          this.#known.set(pid, stat.startTicks);
        }
      }
    }
  }

  /** Of those that are known; a number that another process has by now is forgotten. */
  #living(): number[] {
    const living: number[] = [];
    for (const [pid, startTicks] of this.#known) {
      const stat = readStat(pid);
      if (stat === undefined || stat.startTicks !== startTicks) {
        this.#known.delete(pid);
      } else if (stat.state !== 'Z' && stat.state !== 'X') {
        living.push(pid);
      }
    }
    return living;
  }
}

function isGroupAlive(pid: number): boolean {
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Who is gone needs no signal. */
export function sendTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // gone, or not ours
  }
}
