import type { OutputFlags } from '../flags.ts';

export interface RestoreFlags extends OutputFlags {
  readonly force: boolean;
}
