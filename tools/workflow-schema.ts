/** Writes the schema in the client to where users find it, and to where masters serve it from: `node tools/workflow-schema.ts`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { workflowSchema } from '@baton/client/workflow-file';
import { repositoryRoot } from './workspace.ts';

for (const path of ['packages/client/workflow.schema.json', 'packages/api/workflow.schema.json'])
  writeFileSync(join(repositoryRoot, path), `${JSON.stringify(workflowSchema, null, 2)}\n`);
