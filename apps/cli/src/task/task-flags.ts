import type { TaskClassName, TaskStateName } from '@baton/client';
import type { CommonFlags } from '../flags.ts';

export interface SubmitFlags extends CommonFlags {
  readonly input?: readonly string[];
  readonly queue?: string;
  readonly class?: TaskClassName;
  readonly tag?: readonly string[];
  readonly cpus?: number;
  readonly memoryGib?: number;
  readonly gpus?: number;
  readonly gpuMemoryGib?: number;
  readonly gpuModel?: string;
  readonly os?: readonly string[];
  readonly tool?: readonly string[];
  readonly selector?: string;
  readonly priority?: number;
  readonly key?: string;
  readonly delay?: number;
  readonly timeout?: number;
  readonly startTimeout?: number;
  readonly progressTimeout?: number;
  readonly maxAttempts?: number;
  readonly grpc?: string;
  readonly method?: string;
  readonly process?: string;
  readonly artifact?: readonly string[];
  readonly env?: readonly string[];
  readonly pass?: readonly string[];
  readonly directory?: string;
  readonly wait: boolean;
}

export interface ListFlags extends CommonFlags {
  readonly state?: readonly TaskStateName[];
  readonly queue?: string;
  readonly kind?: string;
  readonly limit: number;
}

export interface ReasonFlags extends CommonFlags {
  readonly reason?: string;
}

export interface OutputTaskFlags extends CommonFlags {
  readonly follow: boolean;
  readonly attempt?: number;
}

export interface LogsFlags extends CommonFlags {
  readonly follow: boolean;
}
