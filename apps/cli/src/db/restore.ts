import { restorePostgres } from '@baton/postgres';
import type { CliContext } from '../context.ts';
import type { RestoreFlags } from './db-flags.ts';
import { databaseFailure, embeddedDataDir } from './embedded.ts';

/** `baton db restore FILE`. */
export async function restore(this: CliContext, { output, force }: RestoreFlags, file: string): Promise<void> {
  const dataDir = embeddedDataDir(this.config);
  const manifest = await restorePostgres({ dataDir, file, force }).catch((thrown: unknown) => {
    throw databaseFailure(thrown);
  });
  this.record({ file, data_dir: dataDir, created_at: manifest.createdAt });
  if (output === 'json') this.screen.json({ file, dataDir, ...manifest });
  else this.screen.line({ text: '✓', style: 'green' }, ` ${dataDir} holds the backup of ${manifest.createdAt}`);
}
