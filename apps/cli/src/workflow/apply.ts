import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { soundWorkflowFile } from './file.ts';

/** `baton workflow apply FILE`. */
export async function apply(this: CliContext, flags: CommonFlags, path: string): Promise<void> {
  const definition = await soundWorkflowFile(path, this.screen);
  const baton = await this.connect(flags);
  const { workflow, changed } = await baton.workflows.apply(definition, { signal: this.signal });
  this.record({ workflow: workflow.name, version: workflow.version, changed });
  if (flags.output === 'json') {
    this.screen.json({ ...workflow, changed });
    return;
  }
  const what = changed ? `is stored as version ${workflow.version}` : `is unchanged, version ${workflow.version}`;
  this.screen.line({ text: '✓', style: 'green' }, ` workflow "${workflow.name}" ${what}`);
  this.screen.note({ text: `  run it: baton run start ${workflow.name} --watch`, style: 'dim' });
}
