import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { ProgramOutput } from '../program/program-output.ts';
import type { ProtocolSession } from '../program/protocol-session.ts';
import { TaskChannel } from '../program/task-channel.ts';
import type { Cgroup } from './cgroup.ts';
import { readOomKills } from './process-table.ts';
import { ProcessTree } from './process-tree.ts';
import { TAG_VARIABLE } from './tag.ts';

/** How often the memory and the processor time of a program are looked at, and who is there. */
const watchMs = 200;
const watchWithoutLimitsMs = 1_000;

/** The words are handed on as they are: the shell only joins the group, lets itself be killed first, and becomes the program. */
const launcher = `
{ [ -z "$1" ] || echo 0 >"$1"; echo 500 >/proc/self/oom_score_adj; } 2>/dev/null
[ -z "$2" ] || ulimit -t "$2"
shift 2
exec "$@"
`;

export interface ProgramSettings {
  /** The first is a path. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  readonly tag: string;
  readonly cgroup: Cgroup | undefined;
  readonly stdin: boolean;
  /** 0: none. */
  readonly memoryBytes: number;
  /** 0: none. */
  readonly cpuTimeMs: number;
}

export interface ProgramEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** It could not be started. */
  readonly error?: Error;
}

/** A program that was started, with all that comes from it. */
export class StartedProgram {
  readonly child: ChildProcess;
  readonly tree: ProcessTree;
  readonly stdout: ProgramOutput;
  readonly stderr: ProgramOutput;
  readonly channel: TaskChannel;
  readonly pid: number;
  /** When the process that was started has ended; its children may live on. */
  readonly ended: Promise<ProgramEnd>;
  /** The task that it works on. */
  session: ProtocolSession | undefined;
  killedFor: 'memory' | 'cpu-time' | undefined;
  peakBytes = 0;
  /** Tasks that it was given. */
  tasks = 0;
  readonly #cgroup: Cgroup | undefined;
  readonly #oomKillsBefore: number;
  #hasEnded = false;
  #watch: NodeJS.Timeout | undefined;

  /** Throws what `spawn` throws at once, as for arguments that are too long. */
  constructor(settings: ProgramSettings) {
    const { command, env, workingDirectory, tag, cgroup, stdin, memoryBytes, cpuTimeMs } = settings;
    this.#cgroup = cgroup;
    this.#oomKillsBefore = readOomKills();
    const isLimitedByKernel = memoryBytes > 0 && cgroup !== undefined && cgroup.limitMemory(memoryBytes);
    // A second more than is allowed to all of them: for when the worker itself has no time to look.
    const cpuSeconds = cpuTimeMs === 0 ? '' : String(Math.ceil(cpuTimeMs / 1000) + 1);
    const words = ['-c', launcher, 'baton-launch', cgroup?.procsFile ?? '', cpuSeconds, ...command];
    this.child = spawn('/bin/sh', words, {
      cwd: workingDirectory,
      // The launcher's complaints (no such file of /proc) are no words of the program: it has none before its first.
      env: { ...env, [TAG_VARIABLE]: tag },
      detached: true,
      stdio: [stdin ? 'pipe' : 'ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const [, stdout, stderr, toTask, fromTask] = this.child.stdio as unknown as [
      Writable | null,
      Readable,
      Readable,
      Writable,
      Readable,
    ];
    this.stdout = new ProgramOutput(stdout, 'stdout');
    this.stderr = new ProgramOutput(stderr, 'stderr');
    this.pid = this.child.pid ?? 0;
    this.tree = new ProcessTree(this.pid, tag, cgroup);
    this.channel = new TaskChannel(fromTask, toTask, {
      onMessage: (message) => this.session?.take(message),
      onNonsense: (why) => this.session?.nonsense(why),
      onClosed: () => {},
    });
    this.child.stdin?.on('error', () => {});
    this.ended = new Promise((resolve) => {
      const end = (end: ProgramEnd) => {
        this.#hasEnded = true;
        clearInterval(this.#watch);
        resolve(end);
      };
      this.child.once('exit', (code, signal) => end({ code, signal }));
      this.child.once('error', (error) => {
        if (this.child.pid === undefined) {
          end({ code: null, signal: null, error });
        }
      });
    });
    const isWatched = (memoryBytes > 0 && !isLimitedByKernel) || cpuTimeMs > 0;
    if (isWatched || cgroup === undefined) {
      this.#watch = setInterval(
        () => this.#look(isLimitedByKernel ? 0 : memoryBytes, cpuTimeMs),
        isWatched ? watchMs : watchWithoutLimitsMs,
      );
      this.#watch.unref();
    }
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Of all its processes that were there when they were last looked at. */
  get residentBytes(): number {
    return this.tree.knownResidentBytes();
  }

  /** Kills what is left of it, and reads what it had printed. False: some of it cannot be killed. */
  async finish(): Promise<boolean> {
    clearInterval(this.#watch);
    const dead = this.pid === 0 || (await this.tree.kill());
    // Nobody is left who could write; what is in the pipes comes at once, unless its reading waits for the log.
    const read = Promise.all([this.stdout.ended, this.stderr.ended, this.channel.drained(2_000)]);
    const timer = setTimeout(() => this.#destroy(), 10_000);
    await read;
    clearTimeout(timer);
    this.#destroy();
    return dead;
  }

  /** Kills by the kernel for want of memory since it was started. */
  get oomKill(): 'own' | 'machine' | undefined {
    if ((this.#cgroup?.oomKills() ?? 0) > 0) {
      return 'own';
    }
    return readOomKills() > this.#oomKillsBefore ? 'machine' : undefined;
  }

  #destroy(): void {
    this.stdout.destroy();
    this.stderr.destroy();
    this.channel.close();
  }

  #look(memoryBytes: number, cpuTimeMs: number): void {
    if (this.killedFor !== undefined || this.#hasEnded) {
      return;
    }
    const { residentBytes, cpuMs } = this.tree.usage();
    this.peakBytes = Math.max(this.peakBytes, residentBytes);
    if (memoryBytes > 0 && residentBytes > memoryBytes) {
      this.killedFor = 'memory';
    } else if (cpuTimeMs > 0 && cpuMs > cpuTimeMs) {
      this.killedFor = 'cpu-time';
    }
    if (this.killedFor !== undefined) {
      void this.tree.kill();
    }
  }
}
