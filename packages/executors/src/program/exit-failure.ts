import { FailureType } from '@baton/contract';
import type { FailureReport } from '@baton/runtime';

/** How a program ended, and what was seen while it did. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of its standard error. */
  readonly errors: string;
  /** Why the worker ended it, where it did. */
  readonly killedFor?: 'memory' | 'cpu-time' | undefined;
  /** The kernel killed for want of memory meanwhile, in the program's own cgroup or somewhere on the machine. */
  readonly oomKill?: 'own' | 'machine' | undefined;
  readonly memoryBytes: number;
  readonly cpuTimeMs: number;
  /** Most resident memory that was seen; 0: nobody looked. */
  readonly peakBytes: number;
  readonly permanentExitCodes: readonly number[];
}

const messageLength = 4_000;

/** What a program's end means that is no success. */
export function failureOfExit(exit: Exit): FailureReport {
  const errors = exit.errors.trimEnd();
  if (exit.killedFor === 'memory') {
    const message = `its processes had ${mib(exit.peakBytes)} of memory together; its limit is ${mib(exit.memoryBytes)}`;
    return { type: FailureType.OUT_OF_MEMORY, message: withErrors(message, errors), exceptionType: 'MemoryLimit' };
  }
  if (exit.killedFor === 'cpu-time' || exit.signal === 'SIGXCPU' || exit.code === 128 + 24) {
    const message = `its processes used more processor time together than ${exit.cpuTimeMs} ms`;
    return { type: FailureType.TASK_TIMEOUT, message: withErrors(message, errors), exceptionType: 'CpuTimeLimit' };
  }
  const thrown = thrownIn(errors);
  const ending = exit.signal === null ? `it exited with code ${exit.code}` : `it was ended by ${exit.signal}`;
  // 137: what started the program tells so of it, as a shell or a launcher does, and as Docker does for want of memory.
  if (exit.oomKill === 'own' || exit.code === 137 || (exit.signal === 'SIGKILL' && exit.oomKill === 'machine')) {
    const evidence =
      exit.oomKill === 'own'
        ? 'the kernel killed it for want of memory'
        : exit.oomKill === 'machine'
          ? 'the kernel killed for want of memory on this machine meanwhile'
          : 'as after SIGKILL, for want of memory most likely';
    const message = withErrors(`${ending}: ${evidence}`, errors);
    return { type: FailureType.OUT_OF_MEMORY, message, exceptionType: 'SIGKILL', stack: thrown?.stack };
  }
  if (exit.signal === 'SIGKILL') {
    const message = `${ending}, by somebody else: the kernel counted no kill for want of memory`;
    return { type: FailureType.UNKNOWN, message: withErrors(message, errors), exceptionType: 'SIGKILL' };
  }
  const nonRetryable = exit.code !== null && exit.permanentExitCodes.includes(exit.code);
  if (thrown !== undefined) {
    const { type, message, exceptionType, stack } = thrown;
    return { type, message: cut(`${message} (${ending})`), exceptionType, stack, nonRetryable };
  }
  const type =
    exit.signal === 'SIGTERM' || exit.signal === 'SIGINT' || exit.signal === 'SIGHUP'
      ? FailureType.UNKNOWN
      : FailureType.EVALUATION_ERROR;
  return {
    type,
    message: withErrors(ending, errors),
    exceptionType: exit.signal ?? `exit ${exit.code}`,
    nonRetryable,
  };
}

/** The type that an exception of a program has by its class and message. */
export function typeOfException(exceptionType: string, message: string): FailureType {
  if (/(?:^|\.)(?:MemoryError|OutOfMemoryError|OutOfMemoryException)$/.test(exceptionType)) {
    return FailureType.OUT_OF_MEMORY;
  }
  if (/CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|heap out of memory|std::bad_alloc/.test(message)) {
    return FailureType.OUT_OF_MEMORY;
  }
  // What the device does wrong, and not what the program did with it: an illegal access is the program's own.
  if (
    /uncorrectable ECC error|GPU has fallen off the bus|no CUDA-capable device|CUDA-capable device\(s\) is\/are busy/i.test(
      message,
    )
  ) {
    return FailureType.GPU_ERROR;
  }
  return FailureType.EVALUATION_ERROR;
}

interface Thrown {
  readonly type: FailureType;
  readonly message: string;
  readonly exceptionType: string;
  readonly stack: string;
}

/** What Python or Node print of an exception that nobody caught. */
function thrownIn(errors: string): Thrown | undefined {
  const python = errors.lastIndexOf('Traceback (most recent call last):');
  if (python >= 0) {
    const stack = errors.slice(python);
    // The first line after the frames, which are indented.
    const text = stack
      .split('\n')
      .slice(1)
      .find((line) => /^[A-Za-z_][\w.]*(?::|$)/.test(line));
    if (text !== undefined) {
      const colon = text.indexOf(':');
      const exceptionType = colon < 0 ? text : text.slice(0, colon);
      const message = colon < 0 ? text : text.slice(colon + 1).trim() || exceptionType;
      return { type: typeOfException(exceptionType, message), message, exceptionType, stack };
    }
  }
  const node = /^(?:Uncaught )?([A-Z]\w*(?:Error|Exception)?): (.*)\n((?: {4}at .*\n?)+)/m.exec(errors);
  if (node !== null) {
    const [stack, exceptionType, message] = node as unknown as [string, string, string];
    return { type: typeOfException(exceptionType, message), message, exceptionType, stack };
  }
  if (/CUDA out of memory|heap out of memory|std::bad_alloc/.test(errors)) {
    const message = errors.split('\n').find((line) => /out of memory|bad_alloc/.test(line)) ?? 'out of memory';
    return { type: FailureType.OUT_OF_MEMORY, message, exceptionType: 'OutOfMemory', stack: errors };
  }
  return undefined;
}

function withErrors(message: string, errors: string): string {
  return errors === '' ? message : cut(`${message}\n${errors.slice(-messageLength)}`);
}

function cut(text: string): string {
  return text.length > 2 * messageLength ? `${text.slice(0, 2 * messageLength)} …` : text;
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`;
}
