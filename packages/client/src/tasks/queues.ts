import { type Queue, SystemService } from '@baton/contract';
import type { Placement, Strategy } from '@baton/domain';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { type List, listOf, type PageOptions } from '../calls/pages.ts';
import { optionalDate } from '../calls/time.ts';

/** A queue with what is in it; each number is counted up to 10 000. */
export interface QueueView {
  readonly name: string;
  readonly namespace: string;
  /** Nothing is granted from it. */
  readonly paused: boolean;
  /** How its tasks are given to workers, where that is not as each master's own setting says. */
  readonly strategy?: Strategy;
  readonly placement?: Placement;
  /** Tasks that may be leased now. */
  readonly ready: number;
  /** Tasks that are due later, or wait for something else. */
  readonly waiting: number;
  readonly leased: number;
  /** Since when the task that may be leased for the longest time waits. */
  readonly oldestReady?: Date;
}

/** `null`: as each master's own setting says. */
export interface QueuePlanning {
  readonly strategy?: Strategy | null;
  readonly placement?: Placement | null;
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

  /**
   * Sets how a queue's tasks are given to workers; `null`: as each master's own setting says. What is left out stays. The master that is
   * asked does so from now on, the others within a second or two. Repeatable. Gives how it is then.
   */
  async set(queue: string, planning: QueuePlanning, options?: CallOptions): Promise<QueuePlanning> {
    const { namespace } = this.#settings;
    const { strategy, placement } = planning;
    const request = {
      namespace,
      queue,
      strategy: strategy === null ? '' : strategy,
      placement: placement === null ? '' : placement,
    };
    const set = await callRepeatably(this.#settings, options, () =>
      this.#client.setQueue(request, requestOptions(this.#settings, options)),
    );
    return { strategy: (set.strategy as Strategy) || null, placement: (set.placement as Placement) || null };
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
  return {
    name,
    namespace,
    paused,
    strategy: (queue.strategy as Strategy) || undefined,
    placement: (queue.placement as Placement) || undefined,
    ready,
    waiting,
    leased,
    oldestReady: optionalDate(queue.oldestReady),
  };
}
