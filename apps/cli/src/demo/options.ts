import type { CliContext } from '../context.ts';

/** What every demonstration is run with. */
export interface DemoOptions {
  readonly context: CliContext;
  /** Of the repository; the working directory, too. */
  readonly root: string;
  /** Where the pipeline's outputs go, absolute. */
  readonly out: string;
  /** Prints the outcome as JSON; undefined: it is told in words. */
  readonly print: ((value: object) => void) | undefined;
}
