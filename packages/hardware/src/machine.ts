import { arch, availableParallelism, hostname, platform, totalmem } from 'node:os';

/** What a machine has, as this process may use it. */
export interface Machine {
  /** As Node names it: linux, darwin, win32, … */
  readonly os: string;
  /** As Node names it: x64, arm64, … */
  readonly arch: string;
  /** Processors that this process may run on; an affinity mask counts. */
  readonly cpus: number;
  /** Memory of the machine, or of the container's limit where that is less. */
  readonly memoryBytes: number;
  readonly hostname: string;
}

export function readMachine(): Machine {
  return {
    os: platform(),
    arch: arch(),
    cpus: availableParallelism(),
    memoryBytes: usableMemoryBytes(),
    hostname: hostname(),
  };
}

/** The lesser of the machine's memory and the limit of the control group that the process runs in. */
export function usableMemoryBytes(): number {
  const limit = process.constrainedMemory();
  const total = totalmem();
  // Without a limit Linux reports a number beyond any memory, other systems 0.
  return limit > 0 && limit < total ? limit : total;
}
