import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { parentPort, workerData } from 'node:worker_threads';

/** Before anything happens. */
const { graceMs } = workerData as { readonly graceMs: number };
/** What is left to a process that has lost its supervisor: to finish what it runs, then to hand it back, then nothing. */
const SECOND_SIGNAL_MS = 3_000;
const KILL_MS = 6_000;

const supervisor = new Socket({ fd: 0, readable: true, writable: false });
const lines = createInterface({ input: supervisor });
lines.once('line', (line) => parentPort?.postMessage(JSON.parse(line)));
supervisor.on('error', end);
supervisor.on('end', end);

let hasEnded = false;

function end(): void {
  if (hasEnded) return;
  hasEnded = true;
  setTimeout(() => process.kill(process.pid, 'SIGTERM'), graceMs);
  setTimeout(() => process.kill(process.pid, 'SIGTERM'), graceMs + SECOND_SIGNAL_MS);
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), graceMs + KILL_MS);
}
