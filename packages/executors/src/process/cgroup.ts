import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const prefix = 'baton-';

/**
 * The directory of cgroup v2 in which this process may make groups; undefined where it may not, as without root or delegation. Kernels
 * before 5.14 have no `cgroup.kill` and count as having none.
 */
export function findCgroupHome(): string | undefined {
  try {
    // id parent major:minor root mount options [optional fields] - type source options
    const mount = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' - '))
      .find(([, rest]) => rest?.startsWith('cgroup2 '))?.[0]
      ?.split(' ')[4];
    const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
    if (mount === undefined || own === undefined) {
      return undefined;
    }
    const home = join(mount, own);
    const probe = new Cgroup(home, `probe-${process.pid}`);
    const works = readdirSync(probe.path).includes('cgroup.kill');
    probe.remove();
    return works ? home : undefined;
  } catch {
    return undefined;
  }
}

/** Groups of earlier lives, by name. */
export function listCgroups(home: string): string[] {
  try {
    return readdirSync(home, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name.startsWith(prefix))
      .map((entry) => entry.name.slice(prefix.length));
  } catch {
    return [];
  }
}

/** A group of its own for the processes of one program: none of them leaves it by forking. */
export class Cgroup {
  readonly path: string;

  /** Makes it, or takes the one that is there. Throws where that is not allowed. */
  constructor(home: string, name: string) {
    this.path = join(home, prefix + name);
    mkdirSync(this.path, { recursive: true });
  }

  /** To be written by the process that joins. */
  get procsFile(): string {
    return join(this.path, 'cgroup.procs');
  }

  /** Of groups below it, too: a program may make its own. */
  members(): number[] {
    return this.#read('cgroup.procs').split('\n').filter(Boolean).map(Number);
  }

  /** SIGKILL to all, those that are being forked included. */
  kill(): void {
    this.#write('cgroup.kill', '1');
  }

  /** Processor time of all that ever ran in it. */
  cpuMs(): number | undefined {
    const usage = /^usage_usec (\d+)$/m.exec(this.#read('cpu.stat'))?.[1];
    return usage === undefined ? undefined : Number(usage) / 1000;
  }

  /** Whether the kernel itself holds the limit: only where the memory controller is delegated. */
  limitMemory(bytes: number): boolean {
    if (!this.#write('memory.max', String(bytes))) {
      return false;
    }
    this.#write('memory.swap.max', '0');
    // All or none: half a program is of no use.
    this.#write('memory.oom.group', '1');
    return true;
  }

  oomKills(): number {
    return Number(/^oom_kill (\d+)$/m.exec(this.#read('memory.events'))?.[1] ?? 0);
  }

  /** False while something is in it. */
  remove(): boolean {
    try {
      rmdirSync(this.path);
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT';
    }
  }

  #read(file: string): string {
    try {
      return readFileSync(join(this.path, file), 'utf8');
    } catch {
      return '';
    }
  }

  #write(file: string, text: string): boolean {
    try {
      // Not created where the controller is not there.
      writeFileSync(join(this.path, file), text, { flag: 'r+' });
      return true;
    } catch {
      return false;
    }
  }
}
