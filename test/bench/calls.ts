import { SystemService, TaskService, type TaskSpec, TaskSpecSchema } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { type Client, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';

/** A client over gRPC, as connect-node makes it. */
export interface GrpcClient {
  readonly tasks: Client<typeof TaskService>;
  readonly system: Client<typeof SystemService>;
}

export function connect(url: string): GrpcClient {
  const transport = createGrpcTransport({ baseUrl: url });
  return { tasks: createClient(TaskService, transport), system: createClient(SystemService, transport) };
}

/** A small JSON document, as tasks have. */
export function noopSpec(): TaskSpec {
  return create(TaskSpecSchema, { kind: 'noop', payload: { case: 'inputJson', value: INPUT } });
}
export const INPUT = JSON.stringify({ i: 12345, text: 'x'.repeat(32) });

/** Some tasks of a SubmitTasks were not taken. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

/** Submits `count` tasks in one call. @param spec of the n-th; default a no-op task. @throws RefusedError */
export async function submitBulk(
  client: GrpcClient,
  count: number,
  spec: (n: number) => TaskSpec = noopSpec,
): Promise<void> {
  const { results } = await client.tasks.submitTasks({ tasks: Array.from({ length: count }, (_, n) => spec(n)) });
  const refused = results.find((result) => result.result.case !== 'submitted');
  if (results.length !== count || refused)
    throw new RefusedError(`${results.length} answers to ${count} tasks; ${JSON.stringify(refused?.result.value)}`);
}

/** Runs `step` in `lanes` loops at once, each as soon as its last one ended, until `go` says no. */
export async function inLanes(lanes: number, go: () => boolean, step: () => Promise<unknown>): Promise<void> {
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      while (go()) await step();
    }),
  );
}
