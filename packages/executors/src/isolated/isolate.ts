import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { FromIsolate, ToIsolate } from './messages.ts';

/** How an isolate ended, where it did so by itself. */
export interface IsolateEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What was thrown and not caught, in a thread. */
  readonly error?: Error;
}

export interface IsolatePlan {
  readonly mode: 'thread' | 'process';
  /** File URL of the module. */
  readonly module: string;
  /** All that it finds in its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Of a process. */
  readonly workingDirectory: string | undefined;
  /** Of a thread's JavaScript heap. */
  readonly memoryMib: number | undefined;
}

/** A thread or a process that carries out tasks, one at a time. */
export interface Isolate {
  send(message: ToIsolate): void;
  /** The one who hears what it says, and of its end. */
  hear(listener: { said(message: FromIsolate): void; ended(end: IsolateEnd): void } | undefined): void;
  /** Ends it, also in the middle of a loop. Resolves when it is gone. */
  kill(): Promise<void>;
  readonly isGone: boolean;
}

/** As this module: `.ts` from the sources, `.js` from the package. */
const MAIN = import.meta.url.endsWith('.ts')
  ? new URL('./isolate-main.ts', import.meta.url)
  : new URL('./isolate-main.js', import.meta.url);

/** @param onLine what it writes to its standard output and error, where it is a process */
export function startIsolate(plan: IsolatePlan, onLine: (data: Buffer, stream: 'stdout' | 'stderr') => void): Isolate {
  return plan.mode === 'thread' ? thread(plan, onLine) : childProcess(plan, onLine);
}

type Listener = Parameters<Isolate['hear']>[0];

function thread(plan: IsolatePlan, onLine: (data: Buffer, stream: 'stdout' | 'stderr') => void): Isolate {
  let listener: Listener;
  let error: Error | undefined;
  let isGone = false;
  const worker = new Worker(MAIN, {
    workerData: { module: plan.module },
    env: { ...plan.env },
    stdout: true,
    stderr: true,
    ...(plan.memoryMib !== undefined && { resourceLimits: { maxOldGenerationSizeMb: plan.memoryMib } }),
  });
  worker.stdout.on('data', (data: Buffer) => onLine(data, 'stdout'));
  worker.stderr.on('data', (data: Buffer) => onLine(data, 'stderr'));
  worker.on('message', (message: FromIsolate) => listener?.said(message));
  worker.on('error', (thrown: Error) => {
    error = thrown;
  });
  const gone = new Promise<void>((resolve) =>
    worker.on('exit', (code) => {
      isGone = true;
      listener?.ended({ code, signal: null, ...(error && { error }) });
      resolve();
    }),
  );
  return {
    send: (message) => worker.postMessage(message),
    hear(next) {
      listener = next;
    },
    async kill() {
      await worker.terminate();
      await gone;
    },
    get isGone() {
      return isGone;
    },
  };
}

function childProcess(plan: IsolatePlan, onLine: (data: Buffer, stream: 'stdout' | 'stderr') => void): Isolate {
  let listener: Listener;
  let isGone = false;
  const child: ChildProcess = fork(fileURLToPath(MAIN), [plan.module], {
    env: { ...plan.env },
    ...(plan.workingDirectory !== undefined && { cwd: plan.workingDirectory }),
    // Bytes, dates and maps cross as they are.
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // A group of its own: what it starts can be ended with it.
    detached: true,
  });
  child.stdout!.on('data', (data: Buffer) => onLine(data, 'stdout'));
  child.stderr!.on('data', (data: Buffer) => onLine(data, 'stderr'));
  child.on('message', (message) => listener?.said(message as FromIsolate));
  const gone = new Promise<void>((resolve) => {
    const end = (code: number | null, signal: NodeJS.Signals | null, error?: Error) => {
      if (isGone) return;
      isGone = true;
      listener?.ended({ code, signal, ...(error && { error }) });
      resolve();
    };
    // `close`, not `exit`: what it wrote last is read by then, unless something that it started keeps its streams open.
    child.on('exit', (code, signal) => {
      killGroup();
      const late = setTimeout(() => end(code, signal), 500);
      child.on('close', () => {
        clearTimeout(late);
        end(code, signal);
      });
    });
    child.on('error', (error) => {
      if (child.pid === undefined) end(null, null, error);
    });
  });
  const killGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Nobody is left in it.
    }
  };
  return {
    send(message) {
      if (child.connected) child.send(message, () => {});
    },
    hear(next) {
      listener = next;
    },
    async kill() {
      killGroup();
      await gone;
    },
    get isGone() {
      return isGone;
    },
  };
}
