import { statfs } from 'node:fs/promises';
import { connect } from 'node:net';
import { cpus } from 'node:os';
import { usableMemoryBytes } from '../machine.ts';
import { OwnProcesses } from './own-processes.ts';

/** How loaded a machine is. Percentages are 0 to 100 of the whole machine; what cannot be measured is null. */
export interface MachineReading {
  readonly cpuPercent: number;
  /** Without what this worker's own processes use. */
  readonly foreignCpuPercent: number;
  readonly memoryPercent: number;
  readonly foreignMemoryPercent: number;
  readonly diskPercent: number | null;
  /** Of a connection to the master, from the first packet to the answer of its kernel. */
  readonly networkLatencyMs: number | null;
  /** This worker's own processes. */
  readonly ownPids: ReadonlySet<number>;
}

export interface MachineMeterOptions {
  /** Roots of the trees of processes that count as the worker's own. */
  readonly ownRoots: readonly number[];
  /** The disk that this path lies on. */
  readonly diskPath: string;
  /** Where the master is now, http://host:port; undefined: not known. */
  readonly masterUrl: () => string | undefined;
  /** Default 2 000. */
  readonly networkTimeoutMs?: number;
}

export interface MachineMeter {
  /** Never rejects. Takes as long as the master's answer, at most the time-out of the network. */
  sample(): Promise<MachineReading>;
}

export function createMachineMeter(options: MachineMeterOptions): MachineMeter {
  const own = new OwnProcesses(options.ownRoots);
  let last = processorMs();
  let cpuPercent = 0;
  let foreignCpuPercent = 0;
  return {
    async sample() {
      const load = await own.sample();
      const now = processorMs();
      const total = now.total - last.total;
      if (total > 0) {
        const busy = total - (now.idle - last.idle);
        cpuPercent = percent(busy / total);
        foreignCpuPercent = percent((busy - load.cpuMs) / total);
        last = now;
      }
      const memory = usableMemoryBytes();
      const used = Math.max(0, memory - process.availableMemory());
      const [diskPercent, networkLatencyMs] = await Promise.all([
        diskUse(options.diskPath),
        latencyTo(options.masterUrl(), options.networkTimeoutMs ?? 2_000),
      ]);
      return {
        cpuPercent,
        foreignCpuPercent,
        memoryPercent: percent(used / memory),
        foreignMemoryPercent: percent((used - load.memoryBytes) / memory),
        diskPercent,
        networkLatencyMs,
        ownPids: load.pids,
      };
    },
  };
}

function processorMs(): { total: number; idle: number } {
  let total = 0;
  let idle = 0;
  for (const { times } of cpus()) {
    total += times.user + times.nice + times.sys + times.idle + times.irq;
    idle += times.idle;
  }
  return { total, idle };
}

/** As `df` counts: what is reserved for root is not there for a worker. */
async function diskUse(path: string): Promise<number | null> {
  try {
    const { blocks, bfree, bavail } = await statfs(path);
    const used = blocks - bfree;
    return used + bavail === 0 ? null : percent(used / (used + bavail));
  } catch {
    return null;
  }
}

/** Null: not reached in time. */
export function latencyTo(url: string | undefined, timeoutMs: number): Promise<number | null> {
  const target = url === undefined ? null : URL.parse(url);
  if (target === null) {
    return Promise.resolve(null);
  }
  return new Promise((resolve) => {
    const begun = performance.now();
    const socket = connect({ host: target.hostname.replace(/^\[|\]$/g, ''), port: Number(target.port || 80) });
    const end = (latencyMs: number | null) => {
      socket.destroy();
      resolve(latencyMs);
    };
    socket.setTimeout(timeoutMs, () => end(null));
    socket.once('connect', () => end(Math.round((performance.now() - begun) * 100) / 100));
    socket.once('error', () => end(null));
  });
}

function percent(share: number): number {
  return Math.min(100, Math.max(0, Math.round(share * 1000) / 10));
}
