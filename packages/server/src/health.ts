import { health } from '@baton/contract/grpc';
import type { DescService } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';

export type HealthStatus = 'SERVING' | 'NOT_SERVING';

/** Where the answers of `grpc.health.v1.Health` come from. The empty service name stands for the whole server. */
export interface HealthSource {
  check(service: string): HealthStatus | 'SERVICE_UNKNOWN';
  /** Calls back after any service's status may have changed, until the returned function is called. */
  subscribe(onChange: () => void): () => void;
  /** Every service with a status, for `List`. Without it, `List` answers for the services given to `serve`. */
  services?(): Iterable<string>;
}

export interface Health extends HealthSource {
  /** Sets one service's status; the empty name is the whole server. A name not known until now becomes known. */
  set(service: DescService | string, status: HealthStatus): void;
  services(): Iterable<string>;
}

/** A health source in memory: the server as a whole and each given service, all SERVING at first. */
export function createHealth(services: Iterable<DescService | string>): Health {
  const statuses = new Map<string, HealthStatus>([['', 'SERVING']]);
  for (const service of services) {
    statuses.set(nameOf(service), 'SERVING');
  }
  const listeners = new Set<() => void>();
  return {
    check: (service) => statuses.get(service) ?? 'SERVICE_UNKNOWN',
    services: () => statuses.keys(),
    subscribe(onChange) {
      // Wrapped, so that the same function subscribed twice is called twice and removed once.
      const listener = () => onChange();
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    set(service, status) {
      const name = nameOf(service);
      if (statuses.get(name) !== status) {
        statuses.set(name, status);
        for (const listener of listeners) {
          listener();
        }
      }
    },
  };
}

/**
 * Registers `grpc.health.v1.Health`. Once `closing` fires, every service is NOT_SERVING whatever the source says, and
 * watches are told so and ended, because an open watch would hold the server's close until its grace period is over.
 */
export function registerHealth(
  router: ConnectRouter,
  source: HealthSource,
  services: readonly string[],
  closing: AbortSignal,
): void {
  const check = (service: string) => {
    const status = source.check(service);
    return closing.aborted && status === 'SERVING' ? 'NOT_SERVING' : status;
  };

  router.service(health.Health, {
    check(request) {
      const status = check(request.service);
      if (status === 'SERVICE_UNKNOWN') {
        throw new ConnectError(`unknown service "${request.service}"`, Code.NotFound);
      }
      return { status: toProto[status] };
    },

    list() {
      const statuses: Record<string, { status: health.HealthCheckResponse_ServingStatus }> = {};
      for (const service of source.services?.() ?? ['', ...services]) {
        statuses[service] = { status: toProto[check(service)] };
      }
      return { statuses };
    },

    async *watch(request, context: HandlerContext) {
      let wake = () => {};
      const onChange = () => wake();
      const unsubscribe = source.subscribe(onChange);
      context.signal.addEventListener('abort', onChange);
      closing.addEventListener('abort', onChange);
      try {
        let last: string | undefined;
        while (!context.signal.aborted) {
          const changed = new Promise<void>((resolve) => {
            wake = resolve;
          });
          const status = check(request.service);
          if (status !== last) {
            last = status;
            yield { status: toProto[status] };
          }
          if (closing.aborted) {
            throw new ConnectError('the server is closing', Code.Unavailable);
          }
          if (!context.signal.aborted) {
            await changed;
          }
        }
      } finally {
        unsubscribe();
        context.signal.removeEventListener('abort', onChange);
        closing.removeEventListener('abort', onChange);
      }
    },
  });
}

const toProto = {
  SERVING: health.HealthCheckResponse_ServingStatus.SERVING,
  NOT_SERVING: health.HealthCheckResponse_ServingStatus.NOT_SERVING,
  SERVICE_UNKNOWN: health.HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN,
};

function nameOf(service: DescService | string): string {
  return typeof service === 'string' ? service : service.typeName;
}
