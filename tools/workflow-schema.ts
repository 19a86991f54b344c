/** Writes `packages/client/workflow.schema.json` from the schema in the client: `node tools/workflow-schema.ts`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { workflowSchema } from '@baton/client/workflow-file';
import { repositoryRoot } from './workspace.ts';

writeFileSync(
  join(repositoryRoot, 'packages/client/workflow.schema.json'),
  `${JSON.stringify(workflowSchema, null, 2)}\n`,
);
