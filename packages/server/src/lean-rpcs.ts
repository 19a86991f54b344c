import {
  type ConnectRouter,
  createMethodImplSpec,
  createServiceImplSpec,
  type MethodImplSpec,
} from '@connectrpc/connect';
import { type StreamRpc, streamRpc } from './stream-rpc.ts';
import { type Running, type UnaryOptions, type UnaryRpc, unaryRpc } from './unary.ts';

/**
 * The unary RPCs of a router, and those with many answers, called without what Connect makes for each call by its protocols and that hardly any handler looks at:
 * async generators, three `Headers`, linked abort signals, a timer. What is asked for is made then. Interceptors, handlers and their
 * context are the same.
 */
export function recordLeanRpcs(router: ConnectRouter, options: UnaryOptions) {
  const rpcs = new Map<string, UnaryRpc>();
  const streams = new Map<string, StreamRpc>();
  const calls = new Set<Running>();
  options.shutdownSignal.addEventListener('abort', () => {
    for (const call of calls) {
      call.abort(options.shutdownSignal.reason);
    }
  });
  const record = (spec: MethodImplSpec) => {
    const path = `/${spec.method.parent.typeName}/${spec.method.name}`;
    if (spec.kind === 'unary') {
      rpcs.set(path, unaryRpc(spec, options, calls));
    } else if (spec.kind === 'server_streaming' || spec.kind === 'bidi_streaming') {
      streams.set(path, streamRpc(spec, options, calls));
    }
  };
  const recording: ConnectRouter = {
    handlers: router.handlers,
    service(service, implementation, own) {
      router.service(service, implementation, own);
      if (own === undefined) {
        Object.values(createServiceImplSpec(service, implementation).methods).forEach(record);
      }
      return recording;
    },
    rpc(method, implementation, own) {
      router.rpc(method, implementation, own);
      if (own === undefined) {
        record(createMethodImplSpec(method, implementation));
      }
      return recording;
    },
  };
  return { recording, rpcs, streams };
}
