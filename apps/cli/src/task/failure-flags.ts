import type { FailureTypeName } from '@baton/client';
import type { CommonFlags } from '../flags.ts';

interface DeadFilter {
  readonly queue?: string;
  readonly kind?: string;
  readonly type?: readonly FailureTypeName[];
}

export interface DeadFlags extends CommonFlags, DeadFilter {
  readonly all: boolean;
  readonly limit: number;
}

export interface ResendFlags extends CommonFlags, DeadFilter {
  readonly allDead: boolean;
  readonly again: boolean;
  readonly key?: string;
}

export interface FailuresFlags extends CommonFlags {
  readonly worker?: string;
  readonly task?: string;
  readonly type?: readonly FailureTypeName[];
  /** Milliseconds. */
  readonly since?: number;
  readonly limit: number;
}

export interface StatsFlags extends CommonFlags {
  /** Milliseconds. */
  readonly since?: number;
}
