import type { OutputFlags } from '../flags.ts';

export interface RetentionFlags extends OutputFlags {
  readonly dryRun: boolean;
  readonly days?: number;
}

export interface RestoreFlags extends OutputFlags {
  readonly force: boolean;
}
