// A program that stays for the next task, and gives back what it is handed.
import { runTask } from '@baton/client/process';

await runTask((input: unknown) => input, { reusable: true });
