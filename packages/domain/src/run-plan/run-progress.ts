import type { NodeState } from '../definition/waves.ts';
import type { RunGraph } from './run-graph.ts';

export type NodeEnd = 'succeeded' | 'failed' | 'cancelled';

/** Where a run stands that is not to be kept waiting. */
export type RunStanding = 'running' | NodeEnd;

const PENDING = 0;
const RUNNING = 1;
const SUCCEEDED = 2;
const FAILED = 3;
const CANCELLED = 4;
const SKIPPED = 5;
const WORDS: readonly NodeState[] = ['pending', 'running', 'succeeded', 'failed', 'cancelled', 'skipped'];
const CODES: Readonly<Record<NodeState, number>> = {
  pending: PENDING,
  running: RUNNING,
  succeeded: SUCCEEDED,
  failed: FAILED,
  cancelled: CANCELLED,
  skipped: SKIPPED,
};

/**
 * How far a run is, kept up to date change by change: an end costs what the node's dependents cost, whatever the size of the
 * graph. Knows nothing of tasks or time. The same ends in any order and any batches lead to the same states.
 *
 * - A node starts when its needs allow: all have succeeded (`join` absent; a need that failed and has `on_failure: continue`
 *   counts), all have ended and one succeeded (`any`), all have ended (`always`).
 * - A need that was skipped skips what joins `all`; a node that joins `any` is skipped when none of its needs succeeded.
 * - A node that failed or was cancelled, without `on_failure: continue`, stops the run, as does `cancel`: what runs may finish,
 *   everything pending is skipped.
 */
export class RunProgress {
  readonly graph: RunGraph;
  /** Nodes that run, in the order in which they started. */
  readonly running = new Set<number>();
  succeeded = 0;
  /** Nodes that have ended or were skipped. */
  ended = 0;
  #states: Uint8Array;
  /** Needs of each node that have not ended. */
  #left: Int32Array;
  #startable: number[] = [];
  #next = 0;
  /** Why nothing starts any more. */
  #stopped: string | null = null;
  #cancelAsked = false;
  #failed: number | null = null;
  #anyCancelled = false;
  #onSkip: (node: number, reason: string) => void;

  /**
   * @param states by node; what is missing is pending
   * @param onSkip told of each node that is skipped from now on
   */
  constructor(
    graph: RunGraph,
    states: readonly (NodeState | undefined)[],
    onSkip: (node: number, reason: string) => void,
  ) {
    this.graph = graph;
    this.#onSkip = onSkip;
    const count = graph.nodes.length;
    this.#states = new Uint8Array(count);
    this.#left = new Int32Array(count);
    for (let node = 0; node < count; node++) {
      const code = CODES[states[node] ?? 'pending'];
      this.#states[node] = code;
      if (code === RUNNING) this.running.add(node);
      if (code > RUNNING) this.ended++;
      if (code === SUCCEEDED) this.succeeded++;
    }
    for (let node = 0; node < count; node++)
      for (const need of graph.needs[node]!) if (this.#states[need]! <= RUNNING) this.#left[node]!++;
    for (let node = 0; node < count; node++) this.#noteEnd(node, this.#states[node]!);
    const skipped: number[] = [];
    for (let node = 0; node < count; node++) if (this.#states[node] === PENDING) this.#judge(node, skipped);
    this.#spread(skipped);
  }

  state(node: number): NodeState {
    return WORDS[this.#states[node]!]!;
  }

  isPending(node: number): boolean {
    return this.#states[node] === PENDING;
  }

  isRunning(node: number): boolean {
    return this.#states[node] === RUNNING;
  }

  /** Nothing new may start: a node failed, or the run is being cancelled. */
  get isStopped(): boolean {
    return this.#stopped !== null;
  }

  /** The node that failed and stopped the run; the first that was seen. */
  get failedNode(): number | null {
    return this.#failed;
  }

  /** A node that may start now, taken out of the queue. It stays pending until it is started, skipped or ended. */
  take(): number | undefined {
    while (this.#next < this.#startable.length) {
      const node = this.#startable[this.#next++]!;
      if (this.#states[node] === PENDING) return node;
    }
    this.#startable = [];
    this.#next = 0;
    return undefined;
  }

  /** Puts back what was taken and cannot start in this step. */
  putBack(nodes: readonly number[]): void {
    for (const node of nodes) if (this.#states[node] === PENDING) this.#startable.push(node);
  }

  /** There is something to take. */
  get hasStartable(): boolean {
    for (let i = this.#next; i < this.#startable.length; i++)
      if (this.#states[this.#startable[i]!] === PENDING) return true;
    return false;
  }

  start(node: number): void {
    if (this.#states[node] !== PENDING) return;
    this.#states[node] = RUNNING;
    this.running.add(node);
  }

  /** A pending or running node has ended. */
  end(node: number, state: NodeEnd): void {
    if (this.#states[node]! > RUNNING) return;
    this.#set(node, CODES[state]);
    this.#noteEnd(node, CODES[state]);
    const skipped: number[] = [];
    this.#settle(node, skipped);
    this.#spread(skipped);
    this.#skipAll();
  }

  /** A pending node is not to be carried out. */
  skip(node: number, reason: string): void {
    if (this.#states[node] !== PENDING) return;
    this.#set(node, SKIPPED);
    this.#onSkip(node, reason);
    const skipped: number[] = [];
    this.#settle(node, skipped);
    this.#spread(skipped);
  }

  /** Nothing new starts; everything pending is skipped. */
  cancel(): void {
    this.#cancelAsked = true;
    this.#stopped ??= 'the run was cancelled';
    this.#skipAll();
  }

  /** Where the run stands, with what may start taken as started. */
  get standing(): RunStanding {
    if (this.ended < this.graph.nodes.length) return 'running';
    if (this.#failed !== null) return 'failed';
    if (this.#anyCancelled) return 'cancelled';
    return this.#cancelAsked && this.succeeded < this.graph.nodes.length ? 'cancelled' : 'succeeded';
  }

  #set(node: number, code: number): void {
    this.running.delete(node);
    this.#states[node] = code;
    this.ended++;
    if (code === SUCCEEDED) this.succeeded++;
  }

  /** What an end means for the run. */
  #noteEnd(node: number, code: number): void {
    if ((code !== FAILED && code !== CANCELLED) || this.graph.nodes[node]!.onFailure === 'continue') return;
    const word = code === FAILED ? 'failed' : 'was cancelled';
    this.#stopped ??= `the run was stopped: node ${JSON.stringify(this.graph.nodes[node]!.id)} ${word}`;
    if (code === FAILED) this.#failed ??= node;
    else this.#anyCancelled = true;
  }

  #skipAll(): void {
    if (this.#stopped === null) return;
    this.#startable = [];
    this.#next = 0;
    if (this.ended + this.running.size === this.graph.nodes.length) return;
    for (let node = 0; node < this.#states.length; node++) {
      if (this.#states[node] !== PENDING) continue;
      this.#set(node, SKIPPED);
      this.#onSkip(node, this.#stopped);
    }
  }

  /** Those that wait for this node have one less to wait for. */
  #settle(node: number, skipped: number[]): void {
    for (const dependent of this.graph.dependents[node]!) {
      this.#left[dependent]!--;
      if (this.#states[dependent] === PENDING) this.#judge(dependent, skipped, node);
    }
  }

  /** May it start, or never? `changed`: the need that ended just now; all are looked at when it is the last. */
  #judge(node: number, skipped: number[], changed?: number): void {
    const { join } = this.graph.nodes[node]!;
    const needs = this.graph.needs[node]!;
    const left = this.#left[node]!;
    if (join === undefined) {
      const isSkipped =
        changed === undefined
          ? needs.some((need) => this.#states[need] === SKIPPED)
          : this.#states[changed] === SKIPPED;
      if (isSkipped) skipped.push(node);
      else if (left === 0) this.#startable.push(node);
    } else if (left === 0) {
      if (join === 'always' || needs.length === 0 || needs.some((need) => this.#states[need] === SUCCEEDED))
        this.#startable.push(node);
      else skipped.push(node);
    }
  }

  #spread(skipped: number[]): void {
    for (let head = 0; head < skipped.length; head++) {
      const node = skipped[head]!;
      if (this.#states[node] !== PENDING) continue;
      this.#set(node, SKIPPED);
      this.#onSkip(
        node,
        this.graph.nodes[node]!.join === 'any' ? 'none of its needs succeeded' : 'a node that it needs was skipped',
      );
      this.#settle(node, skipped);
    }
    if (this.#stopped !== null) this.#skipAll();
  }
}
