import type { CommonFlags } from '../flags.ts';

export interface ListFlags extends CommonFlags {
  readonly all: boolean;
}

export interface DrainFlags extends CommonFlags {
  readonly reason?: string;
}
