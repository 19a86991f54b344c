import { FailureType, type Lease, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Outcome } from '@baton/runtime';
import type { ProgramOutput } from './program-output.ts';
import { outcomeOf, outputOfFile, type ProtocolSession } from './protocol-session.ts';
import { keepOutputs } from './task-artifacts.ts';
import { TaskFileError, type TaskFiles } from './task-files.ts';

/** Of the standard output, where that is the task's. */
const captureBytes = 2 * 1024 * 1024;

/** Where a program's output is; see `ProcessExecutor` of the contract. */
export interface OutputSettings {
  readonly output: string;
  readonly outputBytes: boolean;
}

/** How much of the standard output is kept whole. */
export function captureLimitOf(output: string): number {
  return output === 'stdout' || output === 'stdout_json' ? captureBytes : 0;
}

/** The output of a program that has ended well, once what it left in its directory of outputs is kept. Never rejects. */
export async function takeOutput(
  settings: OutputSettings,
  context: AttemptContext,
  files: TaskFiles,
  stdout: ProgramOutput,
  session: ProtocolSession,
): Promise<Outcome> {
  try {
    const outcome = await outputOf(settings, context, files, stdout, session);
    await keepOutputs(context, files);
    return outcome;
  } catch (error) {
    if (context.signal.aborted) {
      return { kind: 'cancelled' };
    }
    const exceptionType = error instanceof Error ? error.name : typeof error;
    const isOurs = ['TaskFileError', 'ArtifactError', 'SyntaxError', 'TypeError'].includes(exceptionType);
    const message = `its output cannot be taken: ${error instanceof Error ? error.message : String(error)}`;
    const type = isOurs ? FailureType.EVALUATION_ERROR : FailureType.NETWORK_ERROR;
    const nonRetryable = error instanceof Error && 'nonRetryable' in error && error.nonRetryable === true;
    return { kind: 'failure', failure: { type, message, exceptionType, nonRetryable } };
  }
}

async function outputOf(
  settings: OutputSettings,
  context: AttemptContext,
  files: TaskFiles,
  stdout: ProgramOutput,
  session: ProtocolSession,
): Promise<Outcome> {
  switch (settings.output) {
    case 'stdout':
    case 'stdout_json': {
      if (stdout.capturedTooMuch) {
        throw new TaskFileError(`it printed more than ${captureBytes} bytes; write a file instead`);
      }
      const text = stdout.captured.toString();
      if (settings.output === 'stdout') {
        return outcomeOf(context, new TextEncoder().encode(JSON.stringify(text)), PayloadEncoding.JSON);
      }
      const line = text.split('\n').findLast((each) => each.trim() !== '');
      if (line === undefined) {
        throw new SyntaxError('it printed nothing, and its output is to be the last line');
      }
      JSON.parse(line);
      return outcomeOf(context, new TextEncoder().encode(line.trim()), PayloadEncoding.JSON);
    }
    case 'file':
      return outputOfFile(context, files, 'output', settings.outputBytes);
    default: {
      const said = await session.output();
      if (said !== undefined) {
        return said;
      }
      return (await files.exists('output'))
        ? outputOfFile(context, files, 'output', settings.outputBytes)
        : { kind: 'success', output: new TextEncoder().encode('null'), encoding: PayloadEncoding.JSON };
    }
  }
}

/** What differs from task to task; a warm program reads it from its `start`. */
export function ownVariables(lease: Lease, context: AttemptContext, files: TaskFiles): Record<string, string> {
  return {
    TMPDIR: files.seen('tmp'),
    BATON_TASK_ID: context.taskId,
    BATON_TASK_KIND: lease.kind,
    BATON_TASK_ATTEMPT: String(context.attempt),
    BATON_TASK_EPOCH: String(context.epoch),
    BATON_TASK_DIRECTORY: files.seenAs,
    BATON_INPUT_FILE: files.seen('input'),
    BATON_OUTPUT_FILE: files.seen('output'),
    BATON_ARTIFACTS_IN: files.artifactsIn,
    BATON_ARTIFACTS_OUT: files.seen('out'),
    ...(context.runId !== undefined && { BATON_RUN_ID: context.runId }),
    ...(context.nodeId !== undefined && { BATON_NODE_ID: context.nodeId }),
  };
}
