/** What only Node can do: files, and hashes of its own. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { IncrementalHash } from './data/blob-store.ts';
import type { Migration } from './database/migrate.ts';

export { BlobDirectoryUnusable, directoryBlobs } from './data/blob-directory.ts';

const FOLDER = new URL('../migrations/', import.meta.url);

/** All migrations, by version. */
export function loadMigrations(): Migration[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => {
      const sql = readFileSync(new URL(name, FOLDER), 'utf8');
      return { version: Number.parseInt(name, 10), name, sql, hash: createHash('sha256').update(sql).digest('hex') };
    });
}

/** Node's own incremental SHA-256. */
export const createNodeHash = (): IncrementalHash => createHash('sha256');
