import type { CliContext } from '../context.ts';
import type { DoctorFlags } from './doctor-flags.ts';
export async function doctor(this: CliContext, _flags: DoctorFlags): Promise<void> {}
