import { readdir, readFile } from 'node:fs/promises';

/** What this worker's own processes use: itself, what it started, and what those started. */
export interface OwnLoad {
  /** Processor time since the sample before, in milliseconds; 0 in the first sample. */
  readonly cpuMs: number;
  /** Resident memory. Pages that two of them share count twice. */
  readonly memoryBytes: number;
  readonly pids: ReadonlySet<number>;
}

interface Stat {
  readonly parent: number;
  /** In clock ticks, with that of its children that have ended. */
  readonly ticks: number;
  /** In clock ticks since the machine started: with it a number that was given away again is told apart. */
  readonly started: string;
  readonly residentPages: number;
}

/** `USER_HZ`: what the kernel's interface counts in, whatever it is built with. */
const tickMs = 10;
const pageBytes = 4096;

/**
 * Follows the tree of processes below the roots, by /proc. A process that was seen in the tree stays this worker's own when its parent
 * ends and it goes to init. Where there is no /proc only the roots' own numbers are known, and their load is not.
 */
export class OwnProcesses {
  readonly #roots: readonly number[];
  /** Those seen so far, by when they started. */
  #tracked = new Map<number, string>();
  #lastTicks: number | undefined;

  constructor(roots: readonly number[]) {
    this.#roots = roots;
  }

  async sample(): Promise<OwnLoad> {
    const found = new Map<number, Stat>();
    const waiting = [...new Set([...this.#roots, ...this.#tracked.keys()])];
    for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
      if (found.has(pid)) {
        continue;
      }
      const stat = await readStat(pid);
      const known = this.#tracked.get(pid);
      if (stat === null || (known !== undefined && known !== stat.started)) {
        continue;
      }
      found.set(pid, stat);
      waiting.push(...(await childrenOf(pid)));
    }
    this.#tracked = new Map(Array.from(found, ([pid, stat]) => [pid, stat.started]));
    const stats = [...found.values()];
    const ticks = stats.reduce((sum, stat) => sum + stat.ticks, 0);
    // What ended without its parent looking (init looked) takes its time with it: a little of it is not counted then.
    const cpuMs = Math.max(0, ticks - (this.#lastTicks ?? ticks)) * tickMs;
    this.#lastTicks = ticks;
    return {
      cpuMs,
      memoryBytes: stats.reduce((sum, stat) => sum + stat.residentPages, 0) * pageBytes,
      pids: new Set([...this.#roots, ...found.keys()]),
    };
  }
}

async function readStat(pid: number): Promise<Stat | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // The name may have blanks and brackets: what counts is behind the last one.
  const cells = text?.slice(text.lastIndexOf(')') + 2).split(' ');
  if (cells === undefined || cells[0] === 'Z') {
    return null;
  }
  const at = (field: number): number => Number(cells[field - 3]);
  return {
    parent: at(4),
    ticks: at(14) + at(15) + at(16) + at(17),
    started: cells[22 - 3]!,
    residentPages: at(24),
  };
}

/** Each thread has its own list. Where the kernel has none of them nobody is found below a process. */
async function childrenOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')),
  );
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
}
