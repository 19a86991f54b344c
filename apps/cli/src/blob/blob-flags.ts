import type { ConnectionFlags } from '../context.ts';
import type { CommonFlags } from '../flags.ts';

export interface PutFlags extends CommonFlags {
  readonly json: boolean;
}

export interface GetFlags extends ConnectionFlags {
  readonly output?: string;
}
