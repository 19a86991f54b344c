import type { CommonFlags } from '../flags.ts';

export interface ListFlags extends CommonFlags {
  readonly limit: number;
}

export interface GetFlags extends CommonFlags {
  readonly best: boolean;
  readonly file?: string;
}

export interface PruneFlags extends CommonFlags {
  readonly keep?: number;
  readonly dropBest: boolean;
}
