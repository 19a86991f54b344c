import { cpus } from 'node:os';
import { usableMemoryBytes } from './machine.ts';

/** How a machine feels. Percentages are 0 to 100 of the whole machine, not of one processor. */
export interface Load {
  /** Share of processor time in use since the sample before; of the first sample, since the meter was made. */
  readonly cpuPercent: number;
  /** Share of memory that no process could get without swapping. */
  readonly memoryPercent: number;
}

export interface LoadMeter {
  sample(): Load;
}

/** A meter of its own keeps its own "since the sample before": two readers do not disturb each other. */
export function createLoadMeter(): LoadMeter {
  let last = processorTimes();
  let cpuPercent = 0;
  return {
    sample() {
      const now = processorTimes();
      const total = now.total - last.total;
      // The kernel counts in ticks of 10 ms: two samples within one see no time pass, and the former figure stands.
      if (total > 0) {
        cpuPercent = percent((total - (now.idle - last.idle)) / total);
        last = now;
      }
      return { cpuPercent, memoryPercent: percent(1 - process.availableMemory() / usableMemoryBytes()) };
    },
  };
}

function processorTimes(): { total: number; idle: number } {
  let total = 0;
  let idle = 0;
  for (const { times } of cpus()) {
    total += times.user + times.nice + times.sys + times.idle + times.irq;
    idle += times.idle;
  }
  return { total, idle };
}

function percent(share: number): number {
  return Math.min(100, Math.max(0, Math.round(share * 1000) / 10));
}
