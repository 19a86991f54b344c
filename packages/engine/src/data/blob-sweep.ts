import { dropExpiredUploads, dropUnusedBlobs, forgetSaves, knownContents } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { blobStores, UNUSED_BLOB_MS } from './blobs.ts';

const LOOK_AT = 200;

/**
 * Deletes uploads whose time is over, blobs that nothing refers to, and what repeated saves are known by after their lease. Rows go
 * first, files after them: a crash between leaves files that no row names, and those go when they are a day old.
 */
export async function sweepBlobs(env: EngineEnvironment, unusedMs: number = UNUSED_BLOB_MS): Promise<void> {
  const sql = env.pools.api;
  const stores = blobStores(env);
  for (const { id, place } of await dropExpiredUploads(sql)) await stores[place]?.forgetUpload(id);
  let deleted = 0;
  for (;;) {
    const { gone, looked } = await dropUnusedBlobs(sql, unusedMs, LOOK_AT);
    for (const content of gone) await stores[content.place]?.forget(content);
    deleted += gone.length;
    if (looked < LOOK_AT) break;
  }
  const stray = (await stores.directory?.removeStray((ids) => knownContents(sql, ids), UNUSED_BLOB_MS)) ?? 0;
  if (deleted + stray > 0) env.log.info('unused blobs deleted', { blobs: deleted, stray_files: stray });
  await forgetSaves(sql);
}
