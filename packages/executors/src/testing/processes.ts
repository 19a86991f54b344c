import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProcessExecutorSchema } from '@baton/contract';
import type { AttemptContext, Executor, Outcome } from '@baton/runtime';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { onTestFinished, vi } from 'vitest';
import { processExecutor } from '../process/process-executor.ts';
import { listPids, readEnvironment } from '../process/process-table.ts';
import { type Started, start } from './attempt.ts';

type Settings = Omit<MessageInitShape<typeof ProcessExecutorSchema>, '$typeName'>;

export interface ProcessStage {
  readonly directory: string;
  readonly executor: Executor;
  run(
    settings: Settings | readonly string[],
    input?: unknown,
    more?: Partial<AttemptContext>,
  ): Started & { outcome: Promise<Outcome> };
  /** A program of Bash. */
  bash(
    script: string,
    settings?: Settings,
    input?: unknown,
    more?: Partial<AttemptContext>,
  ): ReturnType<ProcessStage['run']>;
  /** Living processes that carry this word in their environment. */
  alive(word: string): number[];
  /** Waits for a file in the stage's directory; gives what is in it. */
  file(name: string): Promise<string>;
}

/** An executor with a directory of its own; both go with the test. */
export function openProcessStage(): ProcessStage {
  const directory = mkdtempSync(join(tmpdir(), 'baton-process-'));
  const executor = processExecutor({
    variables: { PATH: process.env.PATH ?? '', HOME: directory, LANG: 'C.UTF-8' },
    directory: join(directory, 'tasks'),
  });
  onTestFinished(async () => {
    await executor.close?.();
    rmSync(directory, { recursive: true, force: true });
  });
  const run: ProcessStage['run'] = (settings, input, more) => {
    const value: Settings = Array.isArray(settings) ? { command: [...settings] } : (settings as Settings);
    const lease = { executor: { case: 'process' as const, value } };
    const started = start(executor, lease, input, { env: { STAGE: directory }, ...more });
    return { ...started, outcome: Promise.resolve(started.outcome) };
  };
  return {
    directory,
    executor,
    run,
    bash: (script, settings, input, more) => run({ ...settings, command: ['bash', '-c', script] }, input, more),
    alive: (word) => listPids().filter((pid) => readEnvironment(pid).includes(word)),
    file: (name) => {
      const path = join(directory, name);
      return vi.waitUntil(() => existsSync(path) && readFileSync(path, 'utf8').trim(), {
        timeout: 10_000,
        interval: 10,
      });
    },
  };
}
