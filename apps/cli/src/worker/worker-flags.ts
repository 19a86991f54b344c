import type { CommonFlags } from '../flags.ts';

export interface ListFlags extends CommonFlags {
  readonly all: boolean;
}

export interface ResetFlags extends CommonFlags {
  readonly device?: string;
}

export interface LogsFlags extends CommonFlags {
  readonly task?: string;
  readonly follow: boolean;
  readonly recent?: number;
}

export interface HealthFlags extends CommonFlags {
  readonly minutes: number;
}

export interface DrainFlags extends CommonFlags {
  readonly reason?: string;
}

/** Of `baton worker`: all as they were typed, since the worker itself checks them. Lists are separated by commas. */
export interface StartFlags {
  readonly url?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly slots?: string;
  readonly classes?: string;
  readonly tags?: string;
  readonly queues?: string;
  readonly tasks?: string;
  readonly watch?: boolean;
  readonly host?: string;
  readonly port?: string;
  readonly simulatedGpus?: string;
}

const VARIABLES: Readonly<Record<keyof StartFlags, string>> = {
  url: 'BATON_URL',
  namespace: 'BATON_NAMESPACE',
  name: 'BATON_WORKER_NAME',
  slots: 'BATON_WORKER_SLOTS',
  classes: 'BATON_WORKER_CLASSES',
  tags: 'BATON_WORKER_TAGS',
  queues: 'BATON_WORKER_QUEUES',
  tasks: 'BATON_WORKER_TASKS',
  watch: 'BATON_WORKER_WATCH',
  host: 'BATON_WORKER_HOST',
  port: 'BATON_WORKER_PORT',
  simulatedGpus: 'BATON_SIMULATED_GPUS',
};

/** The variables by which the worker is told what the flags say; a flag that was not given has none. */
export function workerVariables(flags: StartFlags): Readonly<Record<string, string>> {
  const given = Object.entries(flags).filter(([, value]) => value !== undefined && value !== false);
  return Object.fromEntries(
    given.map(([flag, value]) => [VARIABLES[flag as keyof StartFlags], value === true ? '1' : String(value)]),
  );
}
