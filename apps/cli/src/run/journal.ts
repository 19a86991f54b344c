import type { JournalEntryView } from '@baton/client';
import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';
import { durationText, stateCell, timeText } from '../terminal/words.ts';

const MOST_CHARACTERS = 60;

/** `baton run journal RUN`. */
export async function journal(this: CliContext, flags: CommonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const { createTime, release, input, entries } = await baton.runs.journal(id, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json({ id, createTime, release, input, entries: entries.map(plain) });
    return;
  }
  if (entries.length === 0) {
    this.screen.note(`run ${id} has done nothing yet`);
    return;
  }
  printTable(
    this.screen,
    ['NUMBER', 'KIND', 'NAME', 'STATE', 'TRIES', 'TIME', 'DUE', 'GAVE'],
    entries.map((entry) => [
      entry.number,
      entry.kind,
      entry.name,
      stateCell(stateOf(entry)),
      entry.attempts === 0 ? undefined : entry.attempts,
      durationText(entry.startTime, entry.position === 0 ? undefined : new Date(entry.endedAtMs), this.now()),
      entry.position === 0 && entry.dueAtMs > 0 ? timeText(new Date(entry.dueAtMs)) : undefined,
      entry.failure ? { text: entry.failure.message, style: 'red' as const } : valueText(entry),
    ]),
  );
}

function stateOf(entry: JournalEntryView): 'running' | 'failed' | 'succeeded' {
  if (entry.position === 0) return 'running';
  return entry.failure ? 'failed' : 'succeeded';
}

function valueText({ output }: JournalEntryView): string | undefined {
  if (output === undefined) return undefined;
  if (output.blob !== undefined) return `blob of ${output.blob.sizeBytes} bytes`;
  if (output.encoding === 2) return `${output.bytes.length} bytes`;
  const text = new TextDecoder().decode(output.bytes);
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
}

/** JSON as it is, bytes in base64. */
function plain({ output, endedAtMs, dueAtMs, position, ...entry }: JournalEntryView): object {
  return {
    ...entry,
    ...(position > 0 && { position, endTime: new Date(endedAtMs) }),
    ...(dueAtMs > 0 && { dueTime: new Date(dueAtMs) }),
    ...(output && outputOf(output)),
  };
}

function outputOf({ encoding, bytes, blob }: NonNullable<JournalEntryView['output']>): object {
  if (blob !== undefined) return { outputBlob: blob };
  if (encoding === 2) return { outputBytes: Buffer.from(bytes).toString('base64') };
  return bytes.length === 0 ? {} : { output: JSON.parse(new TextDecoder().decode(bytes)) };
}
