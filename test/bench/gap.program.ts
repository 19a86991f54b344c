// A program that stays for the next task and says when it began and ended, by the clock of gap.tasks.ts.
import { runTask } from '@baton/client/process';
import { held } from './gap.tasks.ts';

await runTask((ms: number) => held(ms), { reusable: true });
