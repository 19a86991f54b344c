import type { CommonFlags } from '../flags.ts';

export interface DoctorFlags extends CommonFlags {
  readonly contract: boolean;
  readonly file?: string;
}
