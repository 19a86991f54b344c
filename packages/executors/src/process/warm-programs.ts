import type { ProcessExecutor } from '@baton/contract';
import type { ProtocolSession } from '../program/protocol-session.ts';
import type { StartedProgram } from './started-program.ts';

const defaultTasks = 100;
const defaultIdleMs = 60_000;
const leastGrowthBytes = 64 * 1024 * 1024;

export interface WarmProgram {
  readonly program: StartedProgram;
  /** Of its last task: what it said of itself. */
  readonly session: ProtocolSession;
  readonly devices: readonly string[];
  /** Of its last task. */
  readonly kind: string;
}

interface Kept extends WarmProgram {
  timer: NodeJS.Timeout;
}

/** Programs that wait for the next task of the same command, environment and devices. */
export class WarmPrograms {
  readonly #kept = new Map<string, Kept[]>();
  /** Resident memory after its first task. */
  readonly #firstBytes = new WeakMap<StartedProgram, number>();

  kinds(): readonly string[] {
    return [...new Set([...this.#kept.values()].flatMap((list) => list.map(({ kind }) => kind)))];
  }

  /** That they hold. */
  devices(): readonly string[] {
    return [...new Set([...this.#kept.values()].flatMap((list) => list.flatMap(({ devices }) => devices)))];
  }

  take(key: string): WarmProgram | undefined {
    const list = this.#kept.get(key) ?? [];
    for (let kept = list.pop(); kept !== undefined; kept = list.pop()) {
      clearTimeout(kept.timer);
      if (!kept.program.hasEnded) {
        return kept;
      }
      void kept.program.finish();
    }
    this.#kept.delete(key);
    return undefined;
  }

  /** Keeps it, or ends it: when it has done enough tasks, has grown too much, or has ended by itself. */
  async keep(key: string, warm: WarmProgram, settings: ProcessExecutor): Promise<void> {
    const { program } = warm;
    const first = this.#firstBytes.get(program) ?? program.residentBytes;
    this.#firstBytes.set(program, first);
    const mostBytes = Number(settings.warmMemoryBytes) || Math.max(2 * first, first + leastGrowthBytes);
    const isSpent = program.tasks >= (settings.warmTasks || defaultTasks);
    if (program.hasEnded || isSpent || program.residentBytes > mostBytes) {
      await program.finish();
      return;
    }
    const kept: Kept = {
      ...warm,
      timer: setTimeout(() => this.#end(key, kept), settings.warmIdleMs || defaultIdleMs),
    };
    kept.timer.unref();
    const list = this.#kept.get(key);
    if (list === undefined) {
      this.#kept.set(key, [kept]);
    } else {
      list.push(kept);
    }
    void program.ended.then(() => this.#end(key, kept));
  }

  /** Ends those that hold any of these devices for tasks of another key. */
  async evict(devices: readonly string[], key: string): Promise<void> {
    if (devices.length === 0) {
      return;
    }
    const ends: Promise<unknown>[] = [];
    for (const [otherKey, list] of this.#kept) {
      for (const kept of otherKey === key ? [] : [...list]) {
        if (kept.devices.some((device) => devices.includes(device))) {
          ends.push(this.#end(otherKey, kept));
        }
      }
    }
    await Promise.all(ends);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#kept].flatMap(([key, list]) => [...list].map((kept) => this.#end(key, kept))));
  }

  #end(key: string, kept: Kept): Promise<unknown> {
    const list = this.#kept.get(key);
    const at = list?.indexOf(kept) ?? -1;
    if (list === undefined || at < 0) {
      // Taken meanwhile, or ended.
      return Promise.resolve();
    }
    list.splice(at, 1);
    if (list.length === 0) {
      this.#kept.delete(key);
    }
    clearTimeout(kept.timer);
    return kept.program.finish();
  }
}
