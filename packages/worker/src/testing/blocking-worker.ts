// A worker process for tests that block or stop all of it: `node blocking-worker.ts <master url>`. Its tasks take
// milliseconds as input: `block` keeps the main loop busy for so long, `wait` does not.
import { PayloadEncoding } from '@baton/contract';
import { silentLogger } from '@baton/telemetry';
import type { Outcome } from '../attempts/executor.ts';
import { createWorkerRuntime } from '../runtime.ts';

const done: Outcome = { kind: 'success', output: new TextEncoder().encode('null'), encoding: PayloadEncoding.JSON };

const worker = createWorkerRuntime({
  masterUrl: process.argv[2]!,
  name: 'blocking',
  version: '0.0.0',
  log: silentLogger,
  servicePort: null,
  capabilities: { slots: 1 },
  executors: [
    {
      type: 'function',
      kinds: ['block', 'wait'],
      start(lease) {
        const ms = Number(new TextDecoder().decode(lease.input));
        if (lease.kind === 'wait') {
          return new Promise((resolve) => setTimeout(() => resolve(done), ms));
        }
        const end = performance.now() + ms;
        while (performance.now() < end) {}
        return done;
      },
    },
  ],
});
await worker.start();
