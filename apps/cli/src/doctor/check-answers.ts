import { EventService, MasterService, SystemService, TaskService, WorkflowService } from '@baton/contract';
import { health, reflectionV1, reflectionV1alpha } from '@baton/contract/grpc';
import { createClient, type Transport } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { type Finding, ok, problem, wordsOf } from './finding.ts';

const TIMEOUT_MS = 5_000;
const SERVING = health.HealthCheckResponse_ServingStatus.SERVING;
const SERVICES = [TaskService, WorkflowService, EventService, MasterService, SystemService].map(
  ({ typeName }) => typeName,
);
const RESTART = 'start the master again with this version: baton stop, then baton up';

/** Whether a master serves the whole contract over gRPC: reflection lists it, both versions, and health says SERVING. */
export async function checkAnswers(url: string): Promise<readonly Finding[]> {
  const transport = createGrpcTransport({ baseUrl: url });
  return [
    await checkReflection('v1', () => listV1(transport)),
    await checkReflection('v1alpha', () => listV1alpha(transport)),
    ...(await Promise.all(['', ...SERVICES].map((service) => checkHealth(transport, service)))),
  ];
}

async function checkReflection(version: string, list: () => Promise<readonly string[]>): Promise<Finding> {
  const check = `reflection ${version}`;
  try {
    const listed = await list();
    const missing = SERVICES.filter((service) => !listed.includes(service));
    if (missing.length === 0) return ok(check, `lists ${listed.length} services`);
    return problem(check, `does not list ${missing.join(', ')}`, RESTART);
  } catch (error) {
    return problem(check, `does not answer: ${wordsOf(error)}`, RESTART);
  }
}

async function checkHealth(transport: Transport, service: string): Promise<Finding> {
  const check = `health ${service === '' ? 'of the whole' : service}`;
  try {
    const { status } = await createClient(health.Health, transport).check({ service }, { timeoutMs: TIMEOUT_MS });
    if (status === SERVING) return ok(check, 'SERVING');
    return problem(
      check,
      health.HealthCheckResponse_ServingStatus[status],
      'baton status tells which part is not well',
    );
  } catch (error) {
    return problem(check, wordsOf(error), RESTART);
  }
}

const LIST = { messageRequest: { case: 'listServices', value: '' } } as const;

async function* listRequest(): AsyncGenerator<typeof LIST> {
  yield LIST;
}

async function listV1(transport: Transport): Promise<readonly string[]> {
  const client = createClient(reflectionV1.ServerReflection, transport);
  for await (const { messageResponse } of client.serverReflectionInfo(listRequest(), { timeoutMs: TIMEOUT_MS })) {
    if (messageResponse.case === 'listServicesResponse') return messageResponse.value.service.map(({ name }) => name);
  }
  return [];
}

async function listV1alpha(transport: Transport): Promise<readonly string[]> {
  const client = createClient(reflectionV1alpha.ServerReflection, transport);
  for await (const { messageResponse } of client.serverReflectionInfo(listRequest(), { timeoutMs: TIMEOUT_MS })) {
    if (messageResponse.case === 'listServicesResponse') return messageResponse.value.service.map(({ name }) => name);
  }
  return [];
}
