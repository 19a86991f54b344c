import { ContainerExecutor, type ExecuteRequest } from '@baton/contract';
import { serve } from '@baton/server';

export interface ContainerService extends AsyncDisposable {
  /** `host:port`, as a definition has it. */
  readonly address: string;
  /** The paths of each call, in the order of the calls. */
  readonly calls: readonly { inputFile: string; outputFile: string }[];
}

/** An existing service as a user of Baton has it: `ContainerExecutor` on a port, which knows nothing of Baton. */
export async function containerService(
  execute: (request: ExecuteRequest) => { success: boolean; message: string } = ({ outputFile }) => ({
    success: true,
    message: `wrote ${outputFile}`,
  }),
): Promise<ContainerService> {
  const calls: { inputFile: string; outputFile: string }[] = [];
  const server = await serve({
    port: 0,
    services: [ContainerExecutor],
    routes: (router) =>
      router.service(ContainerExecutor, {
        execute(request) {
          calls.push({ inputFile: request.inputFile, outputFile: request.outputFile });
          return execute(request);
        },
      }),
  });
  return {
    address: `127.0.0.1:${server.port}`,
    calls,
    [Symbol.asyncDispose]: () => server.close({ graceMs: 0 }),
  };
}
