// The tasks that the workers of the benchmarks carry out.
import { task } from '@baton/client';

export const noop = task({ id: 'noop', run: () => null });

/** Says when it began, by the clock that all processes of a Linux machine have in common (CLOCK_MONOTONIC), in ns. */
export const probe = task({ id: 'probe', run: () => ({ startedNs: String(process.hrtime.bigint()) }) });
