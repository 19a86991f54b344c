import type { CliContext } from '../context.ts';
import type { OutputFlags } from '../flags.ts';
import { brokenFile, readWorkflowFile, showProblems } from './file.ts';

/** `baton workflow validate FILE`. The problems are the data: they go to stdout. */
export async function validate(this: CliContext, { output }: OutputFlags, path: string): Promise<void> {
  const file = await readWorkflowFile(path);
  const problems = file.ok ? [] : file.problems;
  if (output === 'json') {
    const { name, nodes } = file.ok ? file.definition : {};
    this.screen.json({ file: path, valid: file.ok, name, nodes: nodes?.map((node) => node.id), problems });
  } else if (file.ok) {
    const { name, nodes } = file.definition;
    this.screen.line({ text: '✓', style: 'green' }, ` ${path}: workflow "${name}" is sound, ${countOf(nodes.length)}`);
  } else {
    showProblems(problems, (text, style) => this.screen.line({ text, style }));
  }
  if (!file.ok) throw brokenFile(path, problems);
}

function countOf(nodes: number): string {
  return nodes === 1 ? '1 node' : `${nodes} nodes`;
}
