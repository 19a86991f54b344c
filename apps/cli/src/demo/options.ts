import type { CliContext } from '../context.ts';

/** What every demonstration is run with. */
export interface DemoOptions {
  readonly context: CliContext;
  /** Of the repository; the working directory, too. */
  readonly root: string;
  /** Where the pipeline's outputs go, absolute. */
  readonly out: string;
  /** The workers' module of tasks, absolute; default `tasks.ts` beside this file. */
  readonly tasks?: string;
  /** The end of stdin counts as Ctrl-C. */
  readonly stopWithStdin: boolean;
  /** Prints the outcome as JSON; undefined: it is told in words. */
  readonly print: ((value: object) => void) | undefined;
}
