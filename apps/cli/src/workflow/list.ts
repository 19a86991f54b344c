import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';

/** `baton workflow list`. */
export async function list(this: CliContext, flags: CommonFlags): Promise<void> {
  const baton = await this.connect(flags);
  const workflows = await baton.workflows.list({ signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(workflows);
    return;
  }
  if (workflows.length === 0) {
    this.screen.note('no workflow is stored; store one with `baton workflow apply FILE`');
    return;
  }
  printTable(
    this.screen,
    ['NAME', 'VERSION', 'NODES', 'APPLIED', 'DESCRIPTION'],
    workflows.map(({ name, version, nodeIds, createTime, description }) => [
      name,
      version,
      nodeIds.length,
      timeText(createTime),
      description,
    ]),
  );
}
