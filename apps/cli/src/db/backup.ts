import { backupPostgres } from '@baton/postgres';
import type { CliContext } from '../context.ts';
import type { OutputFlags } from '../flags.ts';
import { databaseFailure, embeddedDataDir } from './embedded.ts';

/** `baton db backup FILE`. */
export async function backup(this: CliContext, { output }: OutputFlags, file: string): Promise<void> {
  const dataDir = embeddedDataDir(this.config);
  const summary = await backupPostgres({ dataDir, file }).catch((thrown: unknown) => {
    throw databaseFailure(thrown);
  });
  this.record({ file: summary.file, files: summary.files, bytes: summary.bytes });
  if (output === 'json') {
    this.screen.json(summary);
    return;
  }
  const size = `${summary.files} files, ${(summary.bytes / 1_000_000).toFixed(1)} MB before compression`;
  this.screen.line({ text: '✓', style: 'green' }, ` ${summary.file}: ${size}`);
}
