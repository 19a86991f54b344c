import type { OutputFlags } from '../flags.ts';

export interface UpFlags extends OutputFlags {
  readonly workers: number;
  readonly tasks?: readonly string[];
  readonly port?: number;
  readonly watch: boolean;
}
