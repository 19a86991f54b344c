import type { Baton } from '@baton/client';
import { checkWorkflow } from '@baton/client/workflow-file';
import { health } from '@baton/contract/grpc';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { type Finding, ok, problem, skipped } from './finding.ts';

const TIMEOUT_MS = 3_000;
const SERVING = health.HealthCheckResponse_ServingStatus.SERVING;

/** A gRPC service that a workflow calls. */
export interface ServiceUse {
  /** host:port. */
  readonly address: string;
  /** Nodes that call it, as `workflow/node`. */
  readonly usedBy: readonly string[];
}

/** The services of the newest version of every stored workflow. */
export async function storedServices(baton: Baton): Promise<readonly ServiceUse[]> {
  const definitions: unknown[] = [];
  for await (const { name } of baton.workflows.list()) {
    const { definitionJson } = await baton.workflows.get(name);
    if (definitionJson !== undefined) definitions.push(JSON.parse(definitionJson));
  }
  return servicesOf(definitions);
}

/** The services of definitions; one that cannot be read calls nothing. */
export function servicesOf(definitions: readonly unknown[]): readonly ServiceUse[] {
  const uses = new Map<string, string[]>();
  for (const value of definitions) {
    const parsed = checkWorkflow(value);
    if (!parsed.ok) continue;
    for (const { id, executor } of parsed.definition.nodes) {
      if (executor.type !== 'grpc') continue;
      uses.set(executor.address, [...(uses.get(executor.address) ?? []), `${parsed.definition.name}/${id}`]);
    }
  }
  return [...uses].map(([address, usedBy]) => ({ address, usedBy }));
}

/** Asks each service for its health by `grpc.health.v1`, as the workers would reach it from here. */
export async function checkServices(services: readonly ServiceUse[]): Promise<readonly Finding[]> {
  if (services.length === 0) return [skipped('service', 'no workflow that is known here calls a gRPC service')];
  return Promise.all(services.map(checkService));
}

async function checkService({ address, usedBy }: ServiceUse): Promise<Finding> {
  const whose = `${address} (${usedBy.join(', ')})`;
  const client = createClient(health.Health, createGrpcTransport({ baseUrl: `http://${address}` }));
  try {
    const { status } = await client.check({}, { timeoutMs: TIMEOUT_MS });
    if (status === SERVING) return ok('service', `${whose} is serving`);
    const word = health.HealthCheckResponse_ServingStatus[status];
    return problem('service', `${whose} says ${word}`, 'look into the log of that service');
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    if (error.code === Code.Unimplemented) return ok('service', `${whose} answers, and has no grpc.health.v1`);
    return problem(
      'service',
      `${whose} cannot be reached: ${error.rawMessage}`,
      'start that service, or correct its address in the workflow and apply it again: baton workflow apply FILE',
    );
  }
}
