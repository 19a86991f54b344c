import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';

/** `baton checkpoint compare TASK A B`. */
export async function compare(
  this: CliContext,
  flags: CommonFlags,
  taskId: string,
  a: number,
  b: number,
): Promise<void> {
  const baton = await this.connect(flags);
  const comparison = await baton.checkpoints.compare(taskId, a, b, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(comparison);
    return;
  }
  if (comparison.sameContent) this.screen.note(`checkpoints ${a} and ${b} have the same bytes`);
  if (comparison.differences.length === 0) return;
  printTable(
    this.screen,
    ['WHAT', String(a), String(b)],
    comparison.differences.map((difference) => [difference.what || '/', short(difference.a), short(difference.b)]),
  );
}

function short(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}
