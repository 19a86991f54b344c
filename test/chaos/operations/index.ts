import { cancel } from './cancel.ts';
import { cancelRun } from './cancel-run.ts';
import type { Operation } from './operation.ts';
import { read } from './read.ts';
import { signalRun } from './signal-run.ts';
import { startRun } from './start-run.ts';
import { submitAgain } from './submit-again.ts';
import { submitMany } from './submit-many.ts';
import { submitOne } from './submit-one.ts';
import { submitTwice } from './submit-twice.ts';

export type { Operation } from './operation.ts';

/** All that clients do. */
export const OPERATIONS: readonly Operation[] = [
  submitOne,
  submitMany,
  submitAgain,
  submitTwice,
  cancel,
  read,
  startRun,
  cancelRun,
  signalRun,
];
