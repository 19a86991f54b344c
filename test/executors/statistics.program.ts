// The same steps as a program of its own: started by a worker, on its machine or in a container.
import { runTask } from '@baton/client/process';
import { type Step, statistics } from './statistics.ts';

// Kept for the next step where it is asked to stay; else it ends, as programs do.
await runTask((input: Step) => statistics(input), { reusable: process.argv.includes('--stay') });
