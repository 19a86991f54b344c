import { createHash } from 'node:crypto';
import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageInitShape } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ContextValues,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from '@connectrpc/connect';
import { isVerdict, reasonOf } from './refusal.ts';

/** One master, and the way to it. */
export interface Way {
  readonly url: string;
  readonly transport: Transport;
  /** Cuts the connection: calls in flight fail, the next one opens a new one. */
  cut(): void;
}

/**
 * Masters of one Postgres, any of which serves any worker: calls go to one of them until a call to it comes to nothing, then to the
 * next. It repeats no call, as whoever makes calls has a way of its own to go on; and cuts none that is under way at the master that is
 * left: that one may only be slow, and an answer that is cut off is lost with the leases in it.
 */
export class Rotation implements Transport {
  readonly #ways: readonly Way[];
  readonly #onMove: (url: string, from: string) => void;
  /** Masters that left a call without an answer, and have answered none since. */
  readonly #silent = new Set<Way>();
  #at = 0;

  /** @param ways at least one; the first is begun with */
  constructor(ways: readonly Way[], onMove: (url: string, from: string) => void = () => {}) {
    this.#ways = ways;
    this.#onMove = onMove;
  }

  /** Of the master that the next call goes to. */
  get url(): string {
    return this.#current.url;
  }

  get #current(): Way {
    return this.#ways[this.#at]!;
  }

  /** Goes on at the next master. False when calls go to another one than this already, or when there is no other. */
  leave(url: string): boolean {
    if (this.#ways.length === 1 || this.url !== url) {
      return false;
    }
    this.#at = (this.#at + 1) % this.#ways.length;
    this.#onMove(this.url, url);
    return true;
  }

  /** Cuts the connections to masters that left a call without an answer: they may be dead without knowing it. */
  cutSilent(): void {
    for (const way of this.#silent) {
      way.cut();
    }
    this.#silent.clear();
  }

  cutAll(): void {
    this.#silent.clear();
    for (const way of this.#ways) {
      way.cut();
    }
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const way = this.#current;
    try {
      const response = await way.transport.unary(method, signal, timeoutMs, header, input, contextValues);
      this.#silent.delete(way);
      return response;
    } catch (error) {
      this.#failed(way, ConnectError.from(error), signal);
      throw error;
    }
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const way = this.#current;
    try {
      const response = await way.transport.stream(method, signal, timeoutMs, header, input, contextValues);
      return { ...response, message: this.#watched(way, response.message, signal) };
    } catch (error) {
      this.#failed(way, ConnectError.from(error), signal);
      throw error;
    }
  }

  /** Most streams fail while they are read. */
  async *#watched<T>(way: Way, messages: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncIterable<T> {
    try {
      yield* messages;
      this.#silent.delete(way);
    } catch (error) {
      this.#failed(way, ConnectError.from(error), signal);
      throw error;
    }
  }

  #failed(way: Way, error: ConnectError, signal: AbortSignal | undefined): void {
    // Ended by whoever made the call: that says nothing about the master.
    if (signal?.aborted === true) {
      return;
    }
    if (error.code === Code.DeadlineExceeded) {
      this.#silent.add(way);
    } else {
      this.#silent.delete(way);
    }
    // More calls than its Postgres answers: that may be its own way to Postgres, which others do not share.
    if (!isVerdict(error) || reasonOf(error) === 'OVERLOADED') {
      this.leave(way.url);
    }
  }
}

/**
 * These masters, each once, in the order in which this worker turns to them. Each worker has an order of its own, the same in every
 * life: they spread over the masters, and those that lose one spread over the others.
 */
export function inOrderOf(worker: string, urls: readonly string[]): string[] {
  const rank = (url: string) => createHash('sha256').update(`${worker}\n${url}`).digest('hex');
  return [...new Set(urls)]
    .map((url) => ({ url, rank: rank(url) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .map(({ url }) => url);
}
