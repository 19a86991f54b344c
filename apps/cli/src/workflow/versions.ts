import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';

/** `baton workflow versions NAME`. */
export async function versions(this: CliContext, flags: CommonFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const found = await baton.workflows.versions(name, { signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(found);
    return;
  }
  printTable(
    this.screen,
    ['VERSION', 'HASH', 'APPLIED', 'DESCRIPTION'],
    found.map(({ version, hash, createTime, description }) => [
      version,
      hash.slice(0, 12),
      timeText(createTime),
      description,
    ]),
  );
}
