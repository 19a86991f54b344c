import { NonRetryable, workflow } from '@baton/client';
import { ContainerExecutor } from '@baton/contract';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { SERVICES, type ServiceId } from './service/kinds.ts';

/** Where the services are; those that are left out listen on their own ports of this machine. */
export interface EnergyPipelineInput {
  readonly services?: Partial<Record<ServiceId, string>>;
}

/** The pipeline as a durable function: code that calls the services one after the other, and never calls one again that has answered. */
export const energyPipeline = workflow({
  id: 'energy-pipeline-function',
  description: "Iowa's electricity by source, 2001-2017; shares, growth, anomalies, a table and a chart",
  run: async (ctx, { services = {} }: EnergyPipelineInput = {}) => {
    const call = (id: ServiceId, inputFile: string, outputFile: string, timeoutMs: number) =>
      ctx.step(id, ({ signal }) => execute(services[id] ?? ADDRESSES[id], inputFile, outputFile, signal), {
        timeoutMs,
        retry: { maxAttempts: 4, initialDelayMs: 5_000 },
      });
    await call('energy-generator', 'data/iowa.json', 'outputs/iowa/output1.json', 30_000);
    await call('energy-analyzer', 'outputs/iowa/output1.json', 'outputs/iowa/output2.json', 60_000);
    return call('report-generator', 'outputs/iowa/output2.json', 'outputs/iowa/final_report.csv', 30_000);
  },
});

const ADDRESSES = Object.fromEntries(
  Object.values(SERVICES).map(({ id, defaultPort }) => [id, `127.0.0.1:${defaultPort}`]),
) as Record<ServiceId, string>;

/** What a service says it did. A file that it cannot use stays one: that is not tried again. */
async function execute(address: string, inputFile: string, outputFile: string, signal: AbortSignal): Promise<string> {
  const baseUrl = `http://${address}`;
  const connection = new Http2SessionManager(baseUrl);
  try {
    const transport = createGrpcTransport({ baseUrl, sessionManager: connection });
    const { success, message } = await createClient(ContainerExecutor, transport).execute(
      { inputFile, outputFile },
      { signal },
    );
    if (!success) throw new NonRetryable(message);
    return message;
  } finally {
    connection.abort();
  }
}
