import type { ConnectionFlags } from '../context.ts';
import type { CommonFlags } from '../flags.ts';

export interface ListFlags extends CommonFlags {
  readonly limit: number;
  readonly task: boolean;
  readonly node?: string;
}

export interface PutFlags extends CommonFlags {
  readonly name?: string;
}

export interface GetFlags extends ConnectionFlags {
  readonly output?: string;
  readonly item?: number;
}
