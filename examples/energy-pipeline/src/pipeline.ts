import { graph } from '@baton/client';
import { SERVICES, type ServiceName } from './service/kinds.ts';

/** The pipeline of `energy-pipeline.baton.yaml`, made in TypeScript. */
export const pipeline = graph({
  id: 'energy-pipeline',
  description: "Iowa's electricity by source, 2001-2017; shares, growth, anomalies, a table and a chart",
});

const service = (name: ServiceName) => ({
  address: `127.0.0.1:${SERVICES[name].defaultPort}`,
  method: 'ContainerExecutor/Execute',
});

const generator = pipeline.grpc('energy-generator', service('generator'), {
  input: () => ({ input_file: 'data/iowa.json', output_file: 'outputs/iowa/output1.json' }),
  startToCloseTimeoutMs: 30_000,
});

const analyzer = pipeline.grpc('energy-analyzer', service('analyzer'), {
  needs: [generator],
  input: () => ({ input_file: 'outputs/iowa/output1.json', output_file: 'outputs/iowa/output2.json' }),
  startToCloseTimeoutMs: 60_000,
});

pipeline.grpc('report-generator', service('reporter'), {
  needs: [analyzer],
  input: () => ({ input_file: 'outputs/iowa/output2.json', output_file: 'outputs/iowa/final_report.csv' }),
  startToCloseTimeoutMs: 30_000,
});
