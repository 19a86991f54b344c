import {
  type ExecutorType,
  isEmptyEnvironment,
  type JsonObject,
  PROGRAM_EXECUTORS,
  type ProgramExecutorType,
  type TaskEnvironment,
} from '@baton/domain';

/** How a task is carried out. `config` is the contract's message as JSON: the engine keeps it and does not read it. */
export type TaskExecutor =
  | { type: 'function' }
  | { type: 'grpc'; address: string; method: string; metadata?: Record<string, string> }
  | { type: ProgramExecutorType; config: JsonObject };

/** As Postgres keeps it, with the environment beside it; null for a function with nothing around it, as most tasks are. */
export function storedExecutor(
  executor: TaskExecutor,
  environment: TaskEnvironment | undefined,
): Record<string, unknown> | null {
  const around = environment && !isEmptyEnvironment(environment) ? { environment } : undefined;
  if (executor.type === 'function') return around ?? null;
  if ('config' in executor) return { ...executor.config, ...around };
  const { type: _, ...config } = executor;
  return { ...config, ...around };
}

export function loadedExecutor(
  type: ExecutorType,
  stored: Record<string, unknown> | null,
): { executor: TaskExecutor; environment: TaskEnvironment | undefined } {
  const { environment, ...config } = (stored ?? {}) as { environment?: TaskEnvironment } & Record<string, unknown>;
  const program = PROGRAM_EXECUTORS.find((known) => known === type);
  if (program) return { executor: { type: program, config: config as JsonObject }, environment };
  if (type !== 'grpc' || stored === null) return { executor: { type: 'function' }, environment };
  return { executor: { type, ...(config as { address: string; method: string }) }, environment };
}
