import {
  ContainerTaskExecutorSchema,
  HttpExecutorSchema,
  ProcessExecutorSchema,
  type Task,
  type TaskEnvironment as TaskEnvironmentMessage,
  TaskEnvironmentSchema,
  type TaskSpec,
} from '@baton/contract';
import type { TaskEnvironment } from '@baton/domain';
import { create, fromJson, type JsonObject, toJson } from '@bufbuild/protobuf';
import { BatonError } from '../calls/error.ts';

/** How the output of a program leaves it, and how it ends. */
interface ProgramEnds {
  /** Write the input to its standard input. It is in the file `BATON_INPUT_FILE` in any case. Default false. */
  readonly stdin?: boolean;
  /**
   * `protocol` (default): what the task's protocol said, else the file `BATON_OUTPUT_FILE`, else null. `stdout_json`: the last line of the
   * standard output, as JSON. `stdout`: all of it, as text. `file`: `BATON_OUTPUT_FILE`, which must be there.
   */
  readonly output?: 'protocol' | 'stdout_json' | 'stdout' | 'file';
  /** Read a file's output as bytes and not as JSON. Default false. */
  readonly outputBytes?: boolean;
  /** From SIGTERM to SIGKILL. Default 5 000. */
  readonly stopGraceMs?: number;
  /** Exit codes after which no further attempt makes sense. */
  readonly permanentExitCodes?: readonly number[];
  /** Of what it prints, what is kept. Default 16 MiB. */
  readonly maxLogBytes?: number;
}

/** A program that the worker starts. No shell reads the words. */
export interface ProcessOptions extends ProgramEnds {
  /** The program and its arguments. A name without a slash is looked for on the worker's PATH. */
  readonly command: readonly string[];
  /** Resident memory of all its processes together. */
  readonly memoryBytes?: number;
  /** Processor time of all its processes together. */
  readonly cpuTimeMs?: number;
  /** Keep the program for the next task of the same command and environment, where it can go on. */
  readonly keepWarm?: boolean;
  /** A warm program ends after so many tasks. Default 100. */
  readonly warmTasks?: number;
  /** A warm program without a task ends after this time. Default 60 000. */
  readonly warmIdleMs?: number;
  /** A warm program ends after a task that left it with more resident memory. */
  readonly warmMemoryBytes?: number;
}

/** A function behind a URL. */
export interface HttpOptions {
  readonly url: string;
  /** Default POST. */
  readonly method?: 'POST' | 'PUT' | 'PATCH' | 'GET' | 'DELETE';
  /** Sent as they are; no place for secrets. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Headers whose values are variables of the worker, by name. */
  readonly secretHeaders?: Readonly<Record<string, string>>;
  /** Default `input`: the input itself is the body. */
  readonly body?: 'input' | 'envelope';
  /** Default 0. */
  readonly maxRedirects?: number;
  readonly maxResponseBytes?: number;
  readonly permanentStatuses?: readonly number[];
  /** How often a function that answered 202 with a Location is asked there again. Default: 202 is an answer like others. */
  readonly pollIntervalMs?: number;
}

export interface ContainerMountOptions {
  /** An absolute path of the worker's machine, or the name of a volume. */
  readonly source: string;
  readonly target: string;
  readonly readOnly?: boolean;
}

/** A container that the worker makes by Docker's API. */
export interface ContainerOptions extends ProgramEnds {
  readonly image: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly mounts?: readonly ContainerMountOptions[];
  readonly cpus?: number;
  readonly memoryBytes?: number;
  readonly shmBytes?: number;
  readonly pidsLimit?: number;
  /** Default `if_not_present`. */
  readonly pullPolicy?: 'if_not_present' | 'always' | 'never';
  /** Name of a variable of the worker: `user:password`. */
  readonly registrySecret?: string;
  readonly network?: string;
  readonly user?: string;
  readonly readOnly?: boolean;
  readonly platform?: string;
  readonly withoutDevices?: boolean;
}

export type ProgramExecutor =
  | ({ readonly type: 'process' } & ProcessOptions)
  | ({ readonly type: 'http' } & HttpOptions)
  | ({ readonly type: 'container' } & ContainerOptions);

const schemas = {
  process: ProcessExecutorSchema,
  http: HttpExecutorSchema,
  container: ContainerTaskExecutorSchema,
} as const;

/** Numbers that travel as 64 bits, which JSON has as texts. */
const WIDE = ['memoryBytes', 'maxLogBytes', 'warmMemoryBytes', 'maxResponseBytes', 'shmBytes'] as const;

/** Throws `BatonError` (invalid_argument) for what the contract has no word for. */
export function programMessage({ type, ...options }: ProgramExecutor): TaskSpec['executor'] {
  try {
    const present = Object.entries(options).filter(([, value]) => value !== undefined);
    const value = fromJson(schemas[type], Object.fromEntries(present) as JsonObject);
    return { case: type, value } as TaskSpec['executor'];
  } catch (error) {
    throw new BatonError({
      code: 'invalid_argument',
      reason: 'INVALID_REQUEST',
      message: `executor: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
}

/** What a task of the server's says; undefined for other executors. */
export function programView(executor: Task['executor']): ProgramExecutor | undefined {
  const { case: type, value } = executor;
  if (type !== 'process' && type !== 'http' && type !== 'container') return undefined;
  const json = toJson(schemas[type], value as never) as Record<string, unknown>;
  for (const name of WIDE) if (name in json) json[name] = Number(json[name]);
  return { type, ...json } as ProgramExecutor;
}

export function environmentMessage({ pass, set, workingDirectory }: TaskEnvironment): TaskEnvironmentMessage {
  return create(TaskEnvironmentSchema, {
    pass: [...(pass ?? [])],
    set: { ...set },
    workingDirectory: workingDirectory ?? '',
  });
}

export function environmentView({ pass, set, workingDirectory }: TaskEnvironmentMessage): TaskEnvironment {
  return {
    ...(pass.length > 0 && { pass }),
    ...(Object.keys(set).length > 0 && { set }),
    ...(workingDirectory !== '' && { workingDirectory }),
  };
}
