import { type Breaker, BreakerSchema, type SystemService } from '@baton/contract';
import type { ClientEngine, SeenBreaker } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { breakerStates } from '../messages/words.ts';

/** SystemService's calls about circuit breakers. */
export function breakerHandlers(
  engine: ClientEngine,
): Pick<ServiceImpl<typeof SystemService>, 'listBreakers' | 'resetBreaker'> {
  const { breakers, lanes } = engine;
  return {
    async listBreakers(request) {
      const namespaceId = await lanes.knownNamespaceId(request.namespace || 'default');
      const seen = await breakers.list(namespaceId, request.worker || null, request.includeClosed);
      return { breakers: seen.map(breakerMessage) };
    },

    async resetBreaker(request) {
      const namespaceId = await lanes.knownNamespaceId(request.namespace || 'default');
      return { before: breakerStates[await breakers.reset(namespaceId, request.worker, request.device)] };
    },
  };
}

function breakerMessage(seen: SeenBreaker): Breaker {
  return create(BreakerSchema, {
    worker: seen.worker,
    device: seen.device,
    state: breakerStates[seen.state],
    reason: seen.reason,
    ...(seen.changedAt && { changeTime: timestampFromDate(seen.changedAt) }),
    ...(seen.probeAt && { probeTime: timestampFromDate(seen.probeAt) }),
    successes: seen.successes,
    probeTaskId: seen.probeTaskId ?? '',
    failures: seen.failures,
  });
}
