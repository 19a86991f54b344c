import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** CPU seconds since some moment; differences count. */
export interface CpuReading {
  /** Null: the server is on another machine. */
  readonly postgres: number | null;
  readonly master: number;
  readonly worker: number;
  /** This process: it is the client. */
  readonly client: number;
  /** All of the machine, what the hypervisor took included. */
  readonly machineBusy: number;
  readonly atMs: number;
}

export interface CpuProcesses {
  readonly postmaster: number | null;
  readonly master: number;
  readonly workers: readonly number[];
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

export function readCpu(processes: CpuProcesses): CpuReading {
  const own = process.cpuUsage();
  return {
    postgres: processes.postmaster === null ? null : treeSeconds(processes.postmaster),
    master: seconds(processes.master),
    worker: processes.workers.reduce((sum, pid) => sum + seconds(pid), 0),
    client: (own.user + own.system) / 1e6,
    machineBusy: machineSeconds(),
    atMs: performance.now(),
  };
}

/** What each part used between two readings, per task; `foreignCores` is what all other processes used. */
export interface CpuShare {
  postgresUs: number | null;
  masterUs: number;
  workerUs: number;
  clientUs: number;
  totalUs: number;
  foreignCores: number;
}

export function cpuShare(from: CpuReading, to: CpuReading, tasks: number): CpuShare {
  const us = (part: 'master' | 'worker' | 'client') => ((to[part] - from[part]) * 1e6) / tasks;
  const postgres = to.postgres === null || from.postgres === null ? null : to.postgres - from.postgres;
  const ours = (postgres ?? 0) + to.master - from.master + to.worker - from.worker + to.client - from.client;
  return {
    postgresUs: postgres === null ? null : (postgres * 1e6) / tasks,
    masterUs: us('master'),
    workerUs: us('worker'),
    clientUs: us('client'),
    totalUs: (ours * 1e6) / tasks,
    foreignCores: Math.max(0, to.machineBusy - from.machineBusy - ours) / ((to.atMs - from.atMs) / 1000),
  };
}

interface ProcessStat {
  readonly parent: number;
  readonly own: number;
  /** Of children that have ended and were waited for. */
  readonly reaped: number;
}

/** CPU seconds of one thread of a process. */
export function threadSeconds(pid: number, thread: number): number {
  return readStat(`${pid}/task/${thread}`)?.own ?? 0;
}

/** @param of a process, or a thread of it */
function readStat(of: number | string): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${of}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The program's name, in brackets, may hold anything; the fields are counted behind it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const sum = (a: number, b: number) => (Number(fields[a]) + Number(fields[b])) / ticksPerSecond;
  return { parent: Number(fields[1]), own: sum(11, 12), reaped: sum(13, 14) };
}

function seconds(pid: number): number {
  return readStat(pid)?.own ?? 0;
}

/** A process, all below it, and those of them that have ended and were waited for: as the postmaster and its backends. */
export function treeSeconds(root: number, { isRootCounted = true }: { isRootCounted?: boolean } = {}): number {
  const stats = new Map<number, ProcessStat>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? readStat(Number(name)) : undefined;
    if (stat !== undefined) stats.set(Number(name), stat);
  }
  const children = Map.groupBy(stats, ([, { parent }]) => parent);
  const below = (pid: number): number =>
    (children.get(pid) ?? []).reduce((sum, [child, { own, reaped }]) => sum + own + reaped + below(child), 0);
  const top = stats.get(root);
  return (isRootCounted ? (top?.own ?? 0) : 0) + (top?.reaped ?? 0) + below(root);
}

export function parentOf(pid: number): number | undefined {
  return readStat(pid)?.parent;
}

function machineSeconds(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .slice('cpu '.length, 400)
    .trim()
    .split(/\s+/)
    .map(Number) as [number, number, number, number, number, number, number, number];
  return (user + nice + system + irq + softirq + steal) / ticksPerSecond;
}
