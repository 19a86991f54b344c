import { ContainerExecutor, FailureType, type Lease, PayloadEncoding } from '@baton/contract';
import { checkAddress } from '@baton/domain';
import type { AttemptContext, Executor, FailureReport, Outcome } from '@baton/runtime';
import {
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  type JsonValue,
  type Message,
  type Registry,
  toJson,
} from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { type CallTarget, failureOfCall } from './grpc-failure.ts';
import { MethodCatalog } from './method-catalog.ts';
import { UnknownSymbolError } from './reflection.ts';
import { messageFromJson } from './request-message.ts';
import { type ServiceConnection, ServiceConnections } from './service-connections.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

/** A unary method, and the types that its messages may contain. */
export interface KnownMethod {
  readonly desc: DescMethodUnary;
  readonly registry: Registry | undefined;
  /** Read from the server before this call: it may have changed since. */
  readonly cached: boolean;
}

/** The task cannot be carried out as it stands; a retry would find it just so. */
class CallRefused extends Error {
  override readonly name = 'CallRefused';
}

/**
 * Carries tasks out by unary gRPC calls: the input is the request as JSON, the output the response as JSON, with every
 * field in it. `ContainerExecutor/Execute` is known, and its `success: false` is a failure; any other method is found by
 * the reflection of its server. One connection per address is kept and shared.
 */
export function grpcExecutor(): Executor {
  const connections = new ServiceConnections();
  const catalog = new MethodCatalog();

  async function start(lease: Lease, context: AttemptContext): Promise<Outcome> {
    if (lease.executor.case !== 'grpc') {
      return failure({ type: FailureType.UNKNOWN, message: 'the lease names no gRPC method' });
    }
    const { address, method: path, metadata } = lease.executor.value;
    const slash = path.lastIndexOf('/');
    const target = { address, service: path.slice(0, slash), method: path.slice(slash + 1) };
    try {
      const header = headersOf(metadata);
      const connection = connectionTo(address);
      const json = decodeInput(lease);
      await untilAborted(connection.ready(), context.signal);
      const response = await call(connection, target, json, header, context);
      return outcomeOf(target, response);
    } catch (error) {
      return outcomeOfError(error, target, context.signal);
    }
  }

  function connectionTo(address: string): ServiceConnection {
    const check = checkAddress(address);
    if (!check.ok) {
      throw new CallRefused(`the address "${address}" ${check.message}; ${check.hint}`);
    }
    return connections.get(address);
  }

  async function call(
    connection: ServiceConnection,
    target: CallTarget,
    json: JsonValue,
    header: Headers,
    context: AttemptContext,
  ): Promise<JsonValue> {
    const known = await untilAborted(find(connection, target), context.signal);
    const { desc, registry, cached } = known;
    let request: Message;
    try {
      request = messageFromJson(desc.input, json, registry);
    } catch (error) {
      if (cached) {
        // The server may have learned of the field since.
        catalog.forget(target.address);
        return call(connection, target, json, header, context);
      }
      throw new CallRefused(
        `invalid input for ${target.service}/${target.method}: ${error instanceof Error ? error.message : error}`,
      );
    }
    try {
      const timeoutMs = context.startToCloseMs === 0 ? undefined : context.startToCloseMs;
      const { message } = await connection.transport.unary(desc, context.signal, timeoutMs, header, request);
      return toJson(desc.output, message, { registry, alwaysEmitImplicit: true });
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (code === Code.Unimplemented || code === Code.NotFound) {
        catalog.forget(target.address);
        if (code === Code.Unimplemented && cached) {
          return call(connection, target, json, header, context);
        }
      }
      throw error;
    }
  }

  async function find(connection: ServiceConnection, target: CallTarget): Promise<KnownMethod> {
    const isContainer = target.service === ContainerExecutor.typeName;
    const found = isContainer
      ? { service: ContainerExecutor as DescService, registry: undefined, cached: false }
      : await catalog.find(connection.transport, target);
    const desc = found.service.methods.find(({ name }) => name === target.method);
    if (desc !== undefined && isUnary(desc)) {
      return { desc, registry: found.registry, cached: found.cached };
    }
    if (desc === undefined && found.cached) {
      catalog.forget(target.address);
      return find(connection, target);
    }
    throw new CallRefused(
      desc === undefined
        ? `${target.service} at ${target.address} has no method ${target.method}`
        : `${target.service}/${target.method} is a stream; only unary methods can be tasks`,
    );
  }

  return { type: 'grpc', start, close: () => connections.close() };
}

function outcomeOf({ service, address }: CallTarget, response: JsonValue): Outcome {
  if (service === ContainerExecutor.typeName) {
    const { success, message } = response as { success: boolean; message: string };
    if (!success) {
      const text = message === '' ? `${service} at ${address} reported a failure without a message` : message;
      return failure({ type: FailureType.EVALUATION_ERROR, message: text, exceptionType: 'ExecuteResponse' });
    }
  }
  return { kind: 'success', output: encoder.encode(JSON.stringify(response)), encoding: PayloadEncoding.JSON };
}

function outcomeOfError(error: unknown, target: CallTarget, signal: AbortSignal): Outcome {
  if (signal.aborted) {
    return { kind: 'cancelled' };
  }
  if (error instanceof CallRefused) {
    return failure({ type: FailureType.EVALUATION_ERROR, message: error.message, nonRetryable: true });
  }
  if (error instanceof UnknownSymbolError) {
    const message = `${target.service} is not known to the reflection of ${target.address}: ${error.message}`;
    return failure({ type: FailureType.EVALUATION_ERROR, message, nonRetryable: true });
  }
  return failure(failureOfCall(error, target));
}

function failure(report: FailureReport): Outcome {
  return { kind: 'failure', failure: report };
}

function headersOf(metadata: Readonly<Record<string, string>>): Headers {
  try {
    return new Headers(metadata);
  } catch (error) {
    throw new CallRefused(`the metadata cannot be sent: ${error instanceof Error ? error.message : error}`);
  }
}

/** No input is a request with every field at its default. */
function decodeInput(lease: Lease): JsonValue {
  if (lease.input.length === 0) {
    return {};
  }
  if (lease.encoding === PayloadEncoding.BYTES) {
    throw new CallRefused('the input of a gRPC task is JSON, and bytes were given');
  }
  try {
    return JSON.parse(decoder.decode(lease.input));
  } catch (error) {
    throw new CallRefused(`the input is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === 'unary';
}

/** Gives up waiting when the signal fires; what was waited for goes on, for others may wait for it too. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) {
      onAbort();
    }
  });
}
