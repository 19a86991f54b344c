import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { WorkerWord } from './peer-worker.ts';

/** Worker processes of a peer, and what they have said so far. */
export interface PeerProcesses extends AsyncDisposable {
  readonly pids: readonly number[];
  /** Jobs that were done. */
  done(): number;
  /** When the first job started, by the machine's monotonic clock; null: none has. */
  firstNs(): bigint | null;
  /** From the call that added a job to its start, ms, of those that say when. */
  takeDelays(): number[];
  /** Has them take jobs. */
  go(): void;
}

/** Resolves when all are connected and wait for the word. @throws PeerEndedError */
export async function startPeer(name: string, url: string, workers: number, slots: number): Promise<PeerProcesses> {
  const program = fileURLToPath(new URL('peer-worker.ts', import.meta.url));
  const children = Array.from({ length: workers }, (_, index) =>
    fork(program, [name, url, String(slots), String(index)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
  );
  let done = 0;
  let firstNs: bigint | null = null;
  let delaysMs: number[] = [];
  const ready = children.map(
    (child) =>
      new Promise<void>((resolve, reject) => {
        child.on('exit', (code) => reject(new PeerEndedError(`a worker of ${name} ended with ${code}`)));
        child.on('message', (word: WorkerWord) => {
          if (word.say === 'ready') return resolve();
          done += word.jobs;
          const first = BigInt(word.firstNs);
          if (firstNs === null || first < firstNs) firstNs = first;
          delaysMs.push(...word.delaysMs);
        });
      }),
  );
  const processes: PeerProcesses = {
    pids: children.map((child) => child.pid!),
    done: () => done,
    firstNs: () => firstNs,
    takeDelays() {
      const taken = delaysMs;
      delaysMs = [];
      return taken;
    },
    go() {
      for (const child of children) child.send('go');
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(children.map(end));
    },
  };
  try {
    await Promise.all(ready);
    return processes;
  } catch (error) {
    await processes[Symbol.asyncDispose]();
    throw error;
  }
}

export class PeerEndedError extends Error {
  override readonly name = 'PeerEndedError';
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), 6_000);
  await ended;
  clearTimeout(timer);
}
