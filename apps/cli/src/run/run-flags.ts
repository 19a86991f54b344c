import type { NodeStateName, RunStateName } from '@baton/client';
import type { CommonFlags } from '../flags.ts';

export interface StartFlags extends CommonFlags {
  readonly watch: boolean;
  readonly input?: readonly string[];
  readonly inputJson?: string;
  readonly key?: string;
  readonly release?: string;
  readonly standalone: boolean;
  /** With `standalone`: modules of tasks. */
  readonly tasks?: readonly string[];
}

export interface ListFlags extends CommonFlags {
  readonly state?: readonly RunStateName[];
  readonly workflow?: string;
  readonly limit: number;
}

export interface ItemsFlags extends CommonFlags {
  readonly state?: readonly NodeStateName[];
  readonly limit: number;
}

export interface SignalFlags extends CommonFlags {
  readonly data?: string;
  readonly key?: string;
}

export interface RetryFlags extends CommonFlags {
  readonly from?: readonly string[];
}

export interface ReasonFlags extends CommonFlags {
  readonly reason?: string;
}

export interface GetFlags extends CommonFlags {
  readonly mermaid: boolean;
}
