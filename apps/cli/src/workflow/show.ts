import { toMermaid, type WorkflowDefinition } from '@baton/client';
import { checkWorkflow } from '@baton/client/workflow-file';
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';
import { isFile, soundWorkflowFile } from './file.ts';

export interface ShowFlags extends CommonFlags {
  readonly mermaid: boolean;
}

/** `baton workflow show FILE|NAME`. */
export async function show(this: CliContext, flags: ShowFlags, workflow: string): Promise<void> {
  const source = isFile(workflow)
    ? await soundWorkflowFile(workflow, this.screen)
    : await storedDefinition(this, flags, workflow);
  if (flags.mermaid) {
    for (const line of toMermaid(source).trimEnd().split('\n')) this.screen.line(line);
    return;
  }
  if (flags.output === 'json') {
    this.screen.json(source);
    return;
  }
  const checked = checkWorkflow(source);
  if (!checked.ok) throw new CliFailure(EXIT.failed, `workflow "${workflow}" is not one that this version can read`);
  printTable(
    this.screen,
    ['NODE', 'KIND', 'NEEDS', 'FOR EACH', 'WHEN'],
    checked.definition.nodes.map(({ id, kind, needs, forEach, when }) => [
      id,
      kind,
      needs.join(', '),
      forEach && ('matrix' in forEach ? 'combination' : 'item'),
      when,
    ]),
  );
}

async function storedDefinition(context: CliContext, flags: ShowFlags, name: string): Promise<WorkflowDefinition> {
  const baton = await context.connect(flags);
  const { definitionJson } = await baton.workflows.get(name, { signal: context.signal });
  const definition = definitionJson === undefined ? undefined : (JSON.parse(definitionJson) as WorkflowDefinition);
  if (definition !== undefined && ('nodes' in definition || 'containers' in definition)) return definition;
  throw new CliFailure(EXIT.failed, `workflow "${name}" is a durable function: its steps are in its code`);
}
