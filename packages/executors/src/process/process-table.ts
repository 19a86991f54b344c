import { readdirSync, readFileSync } from 'node:fs';

/** What Linux says of one process. */
export interface ProcessStat {
  readonly pid: number;
  /** R, S, D, Z, … */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** Processor time, with that of its children that it has waited for. */
  readonly cpuMs: number;
  /** Since boot, in clock ticks: with the pid it names a process for good. */
  readonly startTicks: number;
  readonly residentBytes: number;
}

/** Of every Linux that is met: USER_HZ and the page size that /proc counts in. */
const tickMs = 10;
const pageBytes = 4096;

export function listPids(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => name.charCodeAt(0) >= 49 && name.charCodeAt(0) <= 57)
      .map(Number);
  } catch {
    return [];
  }
}

/** Undefined where there is no such process (any more). */
export function readStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name stands in parentheses and may contain any of them, and blanks.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const field = (n: number): number => Number(fields[n - 3]);
  return {
    pid,
    state: fields[0] ?? '',
    parent: field(4),
    group: field(5),
    session: field(6),
    cpuMs: (field(14) + field(15) + field(16) + field(17)) * tickMs,
    startTicks: field(22),
    residentBytes: field(24) * pageBytes,
  };
}

/** The environment that a process was started with, NUL after each variable; empty where it cannot be read. */
export function readEnvironment(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    return '';
  }
}

/** How often the kernel has killed for want of memory since boot, on this machine or in this container. */
export function readOomKills(): number {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

export const hasProcessTable = process.platform === 'linux';
