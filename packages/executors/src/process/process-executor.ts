import { mkdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FailureType, type Lease, type ProcessExecutor } from '@baton/contract';
import type { AttemptContext, Executor, FailureReport, Outcome } from '@baton/runtime';
import { failureOfExit } from '../program/exit-failure.ts';
import { LogBudget } from '../program/program-output.ts';
import { ProtocolSession } from '../program/protocol-session.ts';
import { failureOfHanded, handedArtifacts } from '../program/task-artifacts.ts';
import { TaskFiles } from '../program/task-files.ts';
import { TASK_PROTOCOL } from '../program/task-messages.ts';
import { captureLimitOf, ownVariables, takeOutput } from '../program/task-output.ts';
import { Cgroup, findCgroupHome } from './cgroup.ts';
import { findProgram } from './find-program.ts';
import { killLeftovers, removeLeftovers } from './leftovers.ts';
import { type ProgramEnd, StartedProgram } from './started-program.ts';
import { directoryPrefix, ownerPrefix, ownOwner, tagOf } from './tag.ts';
import { Warden } from './warden.ts';
import { WarmPrograms } from './warm-programs.ts';

/** Where `baton_task.py` is. */
const pythonDirectory = fileURLToPath(new URL('../../python', import.meta.url));
const defaultStopGraceMs = 5_000;
const defaultMaxStopGraceMs = 60_000;
/** What killing a tree, and reading what it had printed, may take beyond the grace. */
const killMs = 15_000;
const defaultMaxLogBytes = 16 * 1024 * 1024;
/** How long a program may live that has said how it ends. */
const farewellMs = 5_000;

export interface ProcessExecutorOptions {
  /** Variables that every program finds: PATH, HOME, LANG. Nothing else of the worker's environment reaches it. */
  readonly variables: Readonly<Record<string, string>>;
  /** Where attempts have their directories. Made when it is not there. */
  readonly directory: string;
  /** Programs that may be started: paths, or names that are looked for on PATH. Default: any. */
  readonly allow?: readonly string[];
  /** The longest time between SIGTERM and SIGKILL that a task may ask for. Default 60 000. */
  readonly maxStopGraceMs?: number;
  /** Told what happened beside the tasks. */
  readonly onEvent?: (message: string, fields: Record<string, unknown>) => void;
}

/** Where programs can be started and ended as described: not on Windows. */
export const canRunProcesses = process.platform !== 'win32';

/**
 * Carries tasks out by programs that it starts: argv only, in a process group (and a cgroup, where it may make one) of their own. When an
 * attempt ends, however it does, nothing of its program is left, but for one that is kept warm.
 */
export function processExecutor(options: ProcessExecutorOptions): Executor {
  return new ProcessRunner(options);
}

class ProcessRunner implements Executor {
  readonly type = 'process';
  readonly #options: ProcessExecutorOptions;
  readonly #owner = ownOwner();
  readonly #cgroupHome = findCgroupHome();
  readonly #ready: Promise<void>;
  readonly #warm = new WarmPrograms();
  /** Removals of directories that nobody waits for. */
  readonly #removals = new Set<Promise<void>>();
  /** Programs that work on a task. */
  readonly #busy = new Set<StartedProgram>();
  #warden: Warden | undefined;

  constructor(options: ProcessExecutorOptions) {
    this.#options = options;
    // Before it takes work: what a worker before it left over may hold devices and files.
    this.#ready = killLeftovers(this.#cgroupHome).then(
      (killed) => {
        // Whose files they were is dead by now; nobody waits for their removal.
        void removeLeftovers(options.directory);
        if (killed > 0) {
          options.onEvent?.('processes killed that an earlier worker had left over', { processes: killed });
        }
      },
      (error: unknown) => options.onEvent?.('leftovers not looked for', { error }),
    );
  }

  /** Kinds whose next task finds a program waiting. */
  warm(): readonly string[] {
    return this.#warm.kinds();
  }

  warmDevices(): readonly string[] {
    return this.#warm.devices();
  }

  ready(): Promise<void> {
    return this.#ready;
  }

  stopGraceMs(lease: Lease): number {
    return this.#graceOf(lease) + killMs;
  }

  async start(lease: Lease, context: AttemptContext): Promise<Outcome> {
    if (lease.executor.case !== 'process') {
      return failed({ type: FailureType.UNKNOWN, message: 'the lease names no program' });
    }
    await this.#ready;
    let artifacts: string | undefined;
    try {
      artifacts = await handedArtifacts(lease, context);
    } catch (error) {
      return context.signal.aborted ? { kind: 'cancelled' } : failed(failureOfHanded(error));
    }
    let files: TaskFiles;
    try {
      files = await TaskFiles.make(this.#options.directory, directoryPrefix(this.#owner), lease.input, {
        ...(artifacts !== undefined && { artifacts }),
      });
    } catch (error) {
      const message = `no directory for the task: ${describe(error)}`;
      return failed({ type: FailureType.UNKNOWN, message, exceptionType: nameOf(error) });
    }
    try {
      return await this.#run(lease, lease.executor.value, context, files);
    } catch (error) {
      return failed({ type: FailureType.UNKNOWN, message: describe(error), exceptionType: nameOf(error) });
    } finally {
      const removed = files.remove();
      if (lease.executor.value.keepWarm) {
        // Milliseconds, on a disk that has other work: the next task of the program need not wait for them.
        this.#removals.add(removed);
        void removed.then(() => this.#removals.delete(removed));
      } else {
        await removed;
      }
    }
  }

  async close(): Promise<void> {
    // Their leases are over, one way or the other.
    await Promise.all([this.#warm.close(), ...Array.from(this.#busy, (program) => program.tree.kill())]);
    await Promise.all(this.#removals);
    this.#warden?.close();
  }

  async #run(lease: Lease, settings: ProcessExecutor, context: AttemptContext, files: TaskFiles): Promise<Outcome> {
    const { signal } = context;
    if (signal.aborted) {
      return { kind: 'cancelled' };
    }
    const { devices } = context;
    const workingDirectory =
      context.workingDirectory ?? (settings.keepWarm ? this.#options.directory : `${files.directory}/work`);
    if (context.workingDirectory !== undefined && !isDirectory(workingDirectory)) {
      return failed({
        type: FailureType.EVALUATION_ERROR,
        message: `the working directory ${workingDirectory} is not there on this worker`,
        exceptionType: 'NoWorkingDirectory',
      });
    }
    const common = this.#commonVariables(context, devices);
    const path = findProgram(settings.command[0] ?? '', common.PATH ?? '', workingDirectory);
    if (path === undefined) {
      const message = `there is no program ${JSON.stringify(settings.command[0])} on this worker`;
      return failed({ type: FailureType.EVALUATION_ERROR, message, exceptionType: 'ProgramNotFound' });
    }
    if (!this.#isAllowed(path, common.PATH ?? '')) {
      const message = `this worker may not start ${path}: BATON_PROCESS_ALLOW lacks it`;
      return failed({ type: FailureType.EVALUATION_ERROR, message, exceptionType: 'ProgramNotAllowed' });
    }
    const command = [path, ...settings.command.slice(1)];
    const key = settings.keepWarm ? JSON.stringify([command, common, workingDirectory, devices]) : '';
    // What another task left warm may not hold the devices of this one.
    await this.#warm.evict(devices, key);
    const warm = settings.keepWarm ? this.#warm.take(key) : undefined;
    let program: StartedProgram;
    try {
      program = warm?.program ?? this.#launch(lease, settings, context, files, { command, common, workingDirectory });
    } catch (error) {
      const message = `${path} could not be started: ${describe(error)}`;
      return failed({ type: FailureType.EVALUATION_ERROR, message, exceptionType: nameOf(error) });
    }
    program.tasks++;
    this.#busy.add(program);
    const budget = new LogBudget(Number(settings.maxLogBytes) || defaultMaxLogBytes);
    program.stdout.attach(context, budget, captureLimitOf(settings.output));
    program.stderr.attach(context, budget, 0);
    const session = new ProtocolSession(lease, context, files, program.channel);
    program.session = session;
    session.start(devices, warm?.session);
    const stopped = this.#stopWithSignal(program, session, context, this.#graceOf(lease));
    const farewell = Promise.withResolvers<undefined>();
    let timer: NodeJS.Timeout | undefined;
    void session.answered.then(() => {
      if (settings.keepWarm && session.isReusable) {
        farewell.resolve(undefined);
      } else {
        // It has said how it ends, and has a moment to do so.
        timer = setTimeout(() => farewell.resolve(undefined), farewellMs);
      }
    });
    const end = await Promise.race([program.ended, farewell.promise]);
    clearTimeout(timer);
    stopped();
    await session.settled();
    if (end === undefined && settings.keepWarm && session.isReusable && !signal.aborted) {
      await Promise.all([program.stdout.caughtUp(), program.stderr.caughtUp()]);
      const outcome = await this.#outcome(settings, context, files, program, session, undefined);
      program.stdout.detach();
      program.stderr.detach();
      program.session = undefined;
      this.#busy.delete(program);
      this.#noticeDropped(context, budget);
      await this.#warm.keep(key, { program, session, devices, kind: lease.kind }, settings);
      return outcome;
    }
    const dead = await program.finish();
    this.#busy.delete(program);
    await session.settled();
    this.#noticeDropped(context, budget);
    if (!dead) {
      this.#options.onEvent?.('processes could not be killed', { task_id: context.taskId, pid: program.pid });
    }
    return this.#outcome(settings, context, files, program, session, end ?? { code: 0, signal: null });
  }

  #launch(
    lease: Lease,
    settings: ProcessExecutor,
    context: AttemptContext,
    files: TaskFiles,
    {
      command,
      common,
      workingDirectory,
    }: { command: string[]; common: Record<string, string>; workingDirectory: string },
  ): StartedProgram {
    // Before the first of them is there.
    this.#warden ??= new Warden(ownerPrefix(this.#owner));
    const tag = tagOf(this.#owner, `${context.taskId}-${context.epoch}`);
    mkdirSync(this.#options.directory, { recursive: true, mode: 0o700 });
    const program = new StartedProgram({
      command,
      // What the task sets goes over what is its own; PYTHONPATH has both.
      env: { ...(settings.keepWarm ? {} : ownVariables(lease, context, files)), ...common },
      workingDirectory,
      tag,
      cgroup: this.#makeCgroup(tag),
      stdin: settings.stdin,
      memoryBytes: Number(settings.memoryBytes),
      cpuTimeMs: settings.cpuTimeMs,
    });
    if (settings.stdin) {
      program.child.stdin?.end(lease.input);
    }
    return program;
  }

  #isAllowed(program: string, path: string): boolean {
    const { allow } = this.#options;
    return allow === undefined || allow.some((each) => findProgram(each, path, '/') === program);
  }

  #makeCgroup(tag: string): Cgroup | undefined {
    try {
      return this.#cgroupHome === undefined ? undefined : new Cgroup(this.#cgroupHome, tag);
    } catch {
      return undefined;
    }
  }

  /** The same for all tasks of one environment. */
  #commonVariables(context: AttemptContext, devices: readonly string[]): Record<string, string> {
    return {
      ...this.#options.variables,
      ...context.env,
      BATON_TASK_PROTOCOL: String(TASK_PROTOCOL),
      BATON_TASK_FD_IN: '3',
      BATON_TASK_FD_OUT: '4',
      CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
      CUDA_VISIBLE_DEVICES: devices.join(','),
      // So that `import baton_task` is enough.
      PYTHONPATH: [context.env.PYTHONPATH, pythonDirectory].filter(Boolean).join(':'),
    };
  }

  /** Asks the program to end when the attempt has to, and makes it; gives what undoes that. */
  #stopWithSignal(
    program: StartedProgram,
    session: ProtocolSession,
    { signal }: AttemptContext,
    graceMs: number,
  ): () => void {
    const timers: NodeJS.Timeout[] = [];
    const onAbort = () => {
      const { kind = 'cancel', message = '' } = signal.reason as {
        kind?: 'cancel' | 'timeout' | 'hand-back' | 'lost';
        message?: string;
      };
      if (kind === 'lost' || graceMs === 0) {
        // Somebody else has the task.
        void program.tree.kill();
        return;
      }
      session.stop(kind, message, graceMs);
      timers.push(
        setTimeout(() => program.tree.signal('SIGTERM'), session.stops ? graceMs / 2 : 0),
        setTimeout(() => void program.tree.kill(), graceMs),
      );
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) {
      onAbort();
    }
    return () => {
      signal.removeEventListener('abort', onAbort);
      for (const timer of timers) {
        clearTimeout(timer);
      }
    };
  }

  async #outcome(
    settings: ProcessExecutor,
    context: AttemptContext,
    files: TaskFiles,
    program: StartedProgram,
    session: ProtocolSession,
    end: ProgramEnd | undefined,
  ): Promise<Outcome> {
    if (session.failure !== undefined && program.killedFor === undefined) {
      return context.signal.aborted ? { kind: 'cancelled' } : failed(session.failure);
    }
    if (end?.error !== undefined) {
      const message = `the program could not be started: ${end.error.message}`;
      return failed({ type: FailureType.EVALUATION_ERROR, message, exceptionType: end.error.name });
    }
    // What it has answered counts, however it went from there; unless it was to be ended.
    const isFine = end === undefined || (end.signal === null && end.code === 0);
    if (!isFine && (session.result === undefined || program.killedFor !== undefined)) {
      if (context.signal.aborted) {
        return { kind: 'cancelled' };
      }
      return failed(
        failureOfExit({
          ...end!,
          errors: program.stderr.tail,
          killedFor: program.killedFor,
          oomKill: program.oomKill,
          memoryBytes: Number(settings.memoryBytes),
          cpuTimeMs: settings.cpuTimeMs,
          peakBytes: program.peakBytes,
          permanentExitCodes: settings.permanentExitCodes,
        }),
      );
    }
    return takeOutput(settings, context, files, program.stdout, session);
  }

  #noticeDropped(context: AttemptContext, { droppedLines, droppedBytes }: LogBudget): void {
    if (droppedLines > 0) {
      context.log(`… ${droppedLines} more lines (${droppedBytes} bytes) were printed and are not kept`, 'log');
    }
  }

  #graceOf(lease: Lease): number {
    const asked = lease.executor.case === 'process' ? lease.executor.value.stopGraceMs : 0;
    return Math.min(asked || defaultStopGraceMs, this.#options.maxStopGraceMs ?? defaultMaxStopGraceMs);
  }
}

function failed(failure: FailureReport): Outcome {
  return { kind: 'failure', failure };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}
