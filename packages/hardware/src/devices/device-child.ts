// The process that talks to the driver. Whatever the driver does to it, the worker only waits for an answer as long as it
// wants to, kills it and starts another. A simulation runs here, too, so that its hanging driver hangs a real process.
import { readFileSync, statSync } from 'node:fs';
import type { ChildAnswer, ChildBackend, ChildRequest } from './child-devices.ts';
import { loadNvml } from './nvml-library.ts';
import { NvmlReader } from './nvml-reader.ts';
import { type DevicesReading, NoDriverError } from './reading.ts';
import { hangs, parseSimulation, type Simulation, simulate } from './simulation.ts';

type Reader = () => DevicesReading;

const parent = process.ppid;
const backend: ChildBackend = JSON.parse(process.argv[2] ?? '{}');

function say(answer: ChildAnswer): void {
  // The worker may have gone between; then so does this.
  process.send?.(answer, undefined, undefined, () => {});
}

async function openNvml(library: string): Promise<Reader> {
  const reader = new NvmlReader(await loadNvml(library));
  process.once('exit', () => reader.close());
  return () => reader.read();
}

function openSimulation({ text, file, startedAtMs }: Extract<ChildBackend, { kind: 'simulated' }>): Reader {
  let simulation: Simulation = parseSimulation(file === null ? text : readFileSync(file, 'utf8'));
  let changedMs = file === null ? 0 : statSync(file).mtimeMs;
  let sinceMs = -1;
  return () => {
    const elapsedMs = Date.now() - startedAtMs;
    if (file !== null && statSync(file).mtimeMs !== changedMs) {
      changedMs = statSync(file).mtimeMs;
      simulation = parseSimulation(readFileSync(file, 'utf8'));
      sinceMs = -1;
    }
    const stuck = new Int32Array(new SharedArrayBuffer(4));
    // Blocks this process as a driver does that hangs; it only ends with the fault, or when nobody is there to kill it.
    while (hangs(simulation, Date.now() - startedAtMs) && process.ppid === parent) {
      Atomics.wait(stuck, 0, 0, 200);
    }
    const reading = simulate(simulation, elapsedMs, sinceMs);
    sinceMs = elapsedMs;
    return reading;
  };
}

let opened: Promise<Reader> | undefined;

process.on('message', async ({ id }: ChildRequest) => {
  try {
    opened ??= backend.kind === 'nvml' ? openNvml(backend.library) : Promise.resolve(openSimulation(backend));
    say({ id, reading: (await opened)() });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    say({ id, error: message, noDriver: error instanceof NoDriverError });
  }
});
process.on('disconnect', () => process.exit(0));
