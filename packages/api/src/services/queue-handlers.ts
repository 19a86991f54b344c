import { QueueSchema, type SystemService } from '@baton/contract';
import type { Placement, Strategy } from '@baton/domain';
import type { ClientEngine } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';

const DEFAULT_PAGE = 100;

/** SystemService's calls about queues. */
export function queueHandlers(
  engine: ClientEngine,
): Pick<ServiceImpl<typeof SystemService>, 'listQueues' | 'pauseQueue' | 'resumeQueue' | 'setQueue'> {
  const { queues } = engine;
  return {
    async listQueues(request) {
      const namespace = request.namespace || 'default';
      const limit = request.pageSize || DEFAULT_PAGE;
      const list = JSON.stringify(['queues', namespace]);
      const rows = await queues.list(namespace, decodePageToken(list, request.pageToken) ?? '', limit + 1);
      return {
        queues: rows.slice(0, limit).map((row) =>
          create(QueueSchema, {
            name: row.name,
            namespace,
            paused: row.paused,
            strategy: row.strategy ?? '',
            placement: row.placement ?? '',
            ready: row.ready,
            waiting: row.waiting,
            leased: row.leased,
            ...(row.oldestReady && { oldestReady: timestampFromDate(row.oldestReady) }),
          }),
        ),
        nextPageToken: rows.length > limit ? encodePageToken(list, rows[limit - 1]!.name) : '',
      };
    },

    async pauseQueue(request) {
      return { wasPaused: await queues.pause(request.namespace || 'default', request.queue) };
    },

    async resumeQueue(request) {
      return { wasPaused: await queues.resume(request.namespace || 'default', request.queue) };
    },

    async setQueue(request) {
      const { strategy, placement } = request;
      const planning = await queues.plan(request.namespace || 'default', request.queue, {
        strategy: strategy === '' ? null : (strategy as Strategy | undefined),
        placement: placement === '' ? null : (placement as Placement | undefined),
      });
      return { strategy: planning.strategy ?? '', placement: planning.placement ?? '' };
    },
  };
}
