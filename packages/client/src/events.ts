import { EventService, type Event as WireEvent } from '@baton/contract';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import type { CallOptions, CallSettings } from './calls/call.ts';
import { reconnecting } from './calls/reconnect.ts';
import { optionalDate } from './calls/time.ts';
import { type EventTypeName, eventTypeName, eventTypeOf } from './words.ts';

export interface EventView {
  readonly type: EventTypeName;
  readonly time?: Date;
  readonly taskId?: string;
  readonly runId?: string;
  readonly attempt?: number;
  readonly worker?: string;
  /** Names of the subscriptions that it matches. */
  readonly subscriptions: readonly string[];
}

export interface EventSubscription {
  /** One's own name for it. */
  readonly name?: string;
  /** Any of these; default all. */
  readonly types?: readonly EventTypeName[];
  readonly taskIds?: readonly string[];
  readonly runIds?: readonly string[];
}

export interface WatchEventsOptions extends CallOptions {
  /** Default: one that matches everything. */
  readonly subscriptions?: readonly EventSubscription[];
  /** Go on behind this; from an earlier batch. */
  readonly cursor?: string;
  /** Without a cursor: from this time on. Default: from now on. */
  readonly since?: Date;
}

/** Events that came together; `cursor` stands behind the last of them. Empty when only the cursor moved. */
export interface EventBatch {
  readonly events: readonly EventView[];
  readonly cursor: string;
}

/** What happens, as it happens. */
export class Events {
  readonly #client: Client<typeof EventService>;
  readonly #settings: CallSettings;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(EventService, transport);
    this.#settings = settings;
  }

  /**
   * Never ends by itself; connects again from the last cursor when the connection breaks, without loss or repetition.
   * Throws `BatonError` failed_precondition CURSOR_EXPIRED when history no longer reaches back to the cursor.
   */
  watch(options: WatchEventsOptions = {}): AsyncIterable<EventBatch> {
    const { namespace } = this.#settings;
    let cursor = options.cursor ?? '';
    return reconnecting(this.#settings, options, {
      open: (callOptions) =>
        this.#client.watch(
          {
            namespace,
            cursor,
            since: cursor === '' && options.since ? timestampFromDate(options.since) : undefined,
            subscriptions: options.subscriptions?.map(({ name, types, taskIds, runIds }) => ({
              name,
              types: types?.map(eventTypeOf),
              taskIds: taskIds && [...taskIds],
              runIds: runIds && [...runIds],
            })),
          },
          callOptions,
        ),
      take: (message) => {
        const isNew = message.events.length > 0 || message.cursor !== cursor;
        cursor = message.cursor || cursor;
        const events = message.events.flatMap(({ event, subscriptions }) =>
          event ? [eventView(event, subscriptions)] : [],
        );
        return { items: isNew ? [{ events, cursor }] : [], step: 'more' };
      },
      endsWithServer: false,
    });
  }
}

function eventView(event: WireEvent, subscriptions: readonly string[]): EventView {
  return {
    type: eventTypeName(event.type),
    time: optionalDate(event.time),
    taskId: event.taskId || undefined,
    runId: event.runId || undefined,
    attempt: event.attempt || undefined,
    worker: event.worker || undefined,
    subscriptions,
  };
}
