import { databaseFailure } from '../db/embedded.ts';
import { CliFailure, EXIT } from '../exit.ts';
import { ChildStartError } from './managed-child.ts';

/** Why the stack did not come up, as the command's failure. */
export function stackFailure(thrown: unknown, logDir: string): unknown {
  if (thrown instanceof ChildStartError) {
    return new CliFailure(EXIT.failed, thrown.message, [`its log is in ${logDir}`, 'baton doctor may know more'], {
      cause: thrown,
    });
  }
  return databaseFailure(thrown);
}
