import type { OutputFlags } from '../flags.ts';

export interface StopFlags extends OutputFlags {
  readonly grace: number;
}
