import { writeFile } from 'node:fs/promises';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { cleanJson } from '../terminal/clean.ts';
import { sizeText } from '../terminal/size.ts';
import type { Cell } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';
import type { GetFlags } from './checkpoint-flags.ts';

/** A larger value is not printed for people. */
const SHOWN_BYTES = 256 * 1024;

/** `baton checkpoint get TASK [NUMBER]`. */
export async function get(this: CliContext, flags: GetFlags, taskId: string, number?: number): Promise<void> {
  if (flags.best && number !== undefined) throw usageError('--best and a number do not go together');
  const baton = await this.connect(flags);
  const which = number ?? (flags.best ? 'best' : 'newest');
  const { bytes, value, ...checkpoint } = await baton.checkpoints.get(taskId, which, { signal: this.signal });
  if (flags.file !== undefined) {
    await writeFile(flags.file, await bytes());
    this.screen.note({ text: `${checkpoint.sizeBytes} bytes are in ${flags.file}`, style: 'dim' });
  }
  if (flags.output === 'json') {
    const content = checkpoint.encoding === 'json' && flags.file === undefined ? { value: await value() } : {};
    this.screen.json({ ...checkpoint, ...content });
    return;
  }
  const fields: [string, Cell][] = [
    ['task', checkpoint.taskId],
    ['number', checkpoint.number],
    ['saved', timeText(checkpoint.time)],
    ['by', `attempt ${checkpoint.attempt} (epoch ${checkpoint.epoch}) on ${checkpoint.worker}`],
    ['size', `${sizeText(checkpoint.sizeBytes)}, ${checkpoint.encoding}${checkpoint.inBlob ? ', in a blob' : ''}`],
    ['sha-256', checkpoint.sha256],
    ['score', checkpoint.score],
    ['metadata', Object.keys(checkpoint.metadata).length === 0 ? undefined : cleanJson(checkpoint.metadata)],
  ];
  for (const [name, cell] of fields) {
    if (cell === undefined) continue;
    this.screen.line({ text: name.padEnd(10), style: 'dim' }, String(cell));
  }
  if (flags.file !== undefined) return;
  if (checkpoint.encoding === 'json' && checkpoint.sizeBytes <= SHOWN_BYTES) {
    this.screen.line('');
    this.screen.json(await value());
  } else {
    this.screen.note({ text: 'its bytes are not shown; write them to a file: --file FILE', style: 'dim' });
  }
}
