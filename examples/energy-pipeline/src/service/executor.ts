import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerExecutor } from '@baton/contract';
import type { ConnectRouter } from '@connectrpc/connect';
import { type Step, StepError } from '../step.ts';

/** One line of the service's log: what was asked, and what came of it. */
export interface ExecuteRecord {
  readonly input_file: string;
  readonly output_file: string;
  readonly success: boolean;
  readonly message: string;
  readonly duration_ms: number;
}

/**
 * Serves a step as `ContainerExecutor`. Whatever goes wrong in the step is an answer, `success: false`, not an RPC error;
 * only a call that its caller has given up ends as an RPC does, and then nothing is written.
 *
 * @param delayMs how long each call is held open between computing and writing
 */
export function executorRoutes(
  step: Step,
  delayMs: number,
  log: (record: ExecuteRecord) => void,
): (router: ConnectRouter) => void {
  return (router) => {
    router.service(ContainerExecutor, {
      async execute({ inputFile, outputFile }, { signal }) {
        const startedAt = performance.now();
        const beforeWrite = async () => {
          if (delayMs > 0) await sleep(delayMs, undefined, { signal });
          signal.throwIfAborted();
        };
        let success = true;
        let message: string;
        try {
          message = await step({ inputFile, outputFile }, beforeWrite);
        } catch (error) {
          success = false;
          message = explain(error, signal.aborted);
        }
        const duration_ms = Math.round(performance.now() - startedAt);
        log({ input_file: inputFile, output_file: outputFile, success, message, duration_ms });
        return { success, message };
      },
    });
  };
}

function explain(error: unknown, abandoned: boolean): string {
  if (abandoned) return 'the call was given up before the output was written';
  if (error instanceof StepError) return error.message;
  return `a defect in the service: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}
