import { type Queue, SystemService } from '@baton/contract';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from './call.ts';
import { type List, listOf, type PageOptions } from './pages.ts';
import { optionalDate } from './time.ts';

/** A queue with what is in it; each number is counted up to 10 000. */
export interface QueueView {
  readonly name: string;
  readonly namespace: string;
  /** Nothing is granted from it. */
  readonly paused: boolean;
  /** Tasks that may be leased now. */
  readonly ready: number;
  /** Tasks that are due later, or wait for something else. */
  readonly waiting: number;
  readonly leased: number;
  /** Since when the task that may be leased for the longest time waits. */
  readonly oldestReady?: Date;
}

/** Queues. Every call rejects with `BatonError`. */
export class Queues {
  readonly #client: Client<typeof SystemService>;
  readonly #settings: CallSettings;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(SystemService, transport);
    this.#settings = settings;
  }

  /** By name. */
  list(options?: PageOptions & CallOptions): List<QueueView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { queues, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listQueues({ namespace, pageSize, pageToken }, requestOptions(this.#settings, options)),
      );
      return { items: queues.map(queueView), nextPageToken };
    });
  }

  /**
   * Holds a queue: when this resolves, no master grants anything more from it; what runs goes on. Also of a queue that nobody has used
   * yet. Repeatable. Gives whether it was paused before.
   */
  async pause(queue: string, options?: CallOptions): Promise<{ readonly wasPaused: boolean }> {
    const { namespace } = this.#settings;
    const { wasPaused } = await callRepeatably(this.#settings, options, () =>
      this.#client.pauseQueue({ namespace, queue }, requestOptions(this.#settings, options)),
    );
    return { wasPaused };
  }

  /** Lets a queue go on. Repeatable. `QUEUE_NOT_FOUND` where nobody has used it. */
  async resume(queue: string, options?: CallOptions): Promise<{ readonly wasPaused: boolean }> {
    const { namespace } = this.#settings;
    const { wasPaused } = await callRepeatably(this.#settings, options, () =>
      this.#client.resumeQueue({ namespace, queue }, requestOptions(this.#settings, options)),
    );
    return { wasPaused };
  }
}

function queueView(queue: Queue): QueueView {
  const { name, namespace, paused, ready, waiting, leased } = queue;
  return { name, namespace, paused, ready, waiting, leased, oldestReady: optionalDate(queue.oldestReady) };
}
