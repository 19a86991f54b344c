import { workflowSchema } from '@baton/client/workflow-file';
import type { CliContext } from '../context.ts';

/** `baton workflow schema`. */
export function schema(this: CliContext): void {
  this.screen.json(workflowSchema);
}
