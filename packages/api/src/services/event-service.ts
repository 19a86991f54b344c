import { EventSchema, type EventService, type WatchResponse, WatchResponseSchema } from '@baton/contract';
import { type Engine, type WatchedBatch, watchEvents } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';

export function eventService(engine: Engine, options: ApiOptions): ServiceImpl<typeof EventService> {
  // One message for all watchers that are given the same batch: their server then encodes it once.
  const made = new WeakMap<WatchedBatch, WatchResponse>();
  const response = (batch: WatchedBatch): WatchResponse => {
    const message = made.get(batch) ?? responseOf(batch);
    made.set(batch, message);
    return message;
  };
  return {
    async *watch(request, context) {
      const namespaceId = await engine.lanes.namespaceId(request.namespace || 'default');
      const subscriptions = request.subscriptions.length > 0 ? request.subscriptions : [null];
      const filters = subscriptions.map((s) => ({
        name: s?.name ?? '',
        types: new Set<number>(s?.types.filter((t) => t !== 0)),
        taskIds: new Set(s?.taskIds),
        runIds: new Set(s?.runIds),
      }));
      const from = request.cursor
        ? { cursor: request.cursor }
        : request.since
          ? { since: timestampDate(request.since) }
          : {};
      const abort = eitherAborts(context.signal, options.closing);
      for await (const batch of watchEvents(engine.env, engine.hub, namespaceId, filters, from, abort))
        yield response(batch);
      throwIfCut(context.signal);
    },
  };
}

function responseOf({ events, cursor }: WatchedBatch): WatchResponse {
  return create(WatchResponseSchema, {
    cursor,
    events: events.map(({ event, worker, subscriptions }) => ({
      event: create(EventSchema, {
        type: event.type,
        time: timestampFromDate(event.at),
        taskId: event.taskId,
        runId: event.runId,
        attempt: event.attempt,
        worker,
      }),
      subscriptions: [...subscriptions],
    })),
  });
}
