import type { NodeEnd } from './run-progress.ts';

const OPEN = 0;
const RUNNING = 1;
const CODES = { succeeded: 2, failed: 3, cancelled: 4 } as const;

/** How far the items of one node are. Ends in any order; starts in the order of the items, so many at once as may run. */
export class ItemProgress {
  readonly total: number;
  readonly maxParallel: number;
  running = 0;
  /** Started in this execution or before. */
  started = 0;
  ended = 0;
  failed = 0;
  cancelled = 0;
  /** No more items start. */
  isStopped = false;
  #states: Uint8Array;
  #next = 0;

  /** @param states of items that were started before; those that are `pending` start again */
  constructor(
    total: number,
    maxParallel: number,
    states: Iterable<{ item: number; state: 'pending' | 'running' | NodeEnd }>,
  ) {
    this.total = total;
    this.maxParallel = maxParallel;
    this.#states = new Uint8Array(total);
    for (const { item, state } of states) {
      if (item >= total || state === 'pending') continue;
      this.start(item);
      if (state !== 'running') this.end(item, state);
    }
  }

  /** The next item that may start now; it is open until it is started. */
  next(): number | undefined {
    if (this.isStopped || this.running >= this.maxParallel) return undefined;
    while (this.#next < this.total && this.#states[this.#next] !== OPEN) this.#next++;
    return this.#next < this.total ? this.#next : undefined;
  }

  start(item: number): void {
    if (this.#states[item] !== OPEN) return;
    this.#states[item] = RUNNING;
    this.running++;
    this.started++;
  }

  /** False when it had not been running: it has ended before. */
  end(item: number, state: NodeEnd): boolean {
    if (this.#states[item] !== RUNNING) return false;
    this.#states[item] = CODES[state];
    this.running--;
    this.ended++;
    if (state === 'failed') this.failed++;
    if (state === 'cancelled') this.cancelled++;
    return true;
  }

  /** Nothing runs, and nothing more will. */
  get isOver(): boolean {
    return this.running === 0 && (this.isStopped || this.ended === this.total);
  }

  /** How the node ends, once it is over. */
  get outcome(): NodeEnd {
    if (this.failed > 0) return 'failed';
    return this.ended === this.total && this.cancelled === 0 ? 'succeeded' : 'cancelled';
  }
}
