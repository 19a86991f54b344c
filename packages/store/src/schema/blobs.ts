/** Blobs and their uploads. */
import { sql } from 'drizzle-orm';
import { index, integer, primaryKey, text } from 'drizzle-orm/pg-core';
import { at, baton, bytea, id, now, wordsCheck } from './columns.ts';

export const BLOB_PLACES = ['postgres', 'directory'] as const;

export const blobs = baton.table(
  'blobs',
  {
    namespaceId: integer('namespace_id').notNull(),
    sha256: bytea('sha256').notNull(),
    sizeBytes: id('size_bytes').notNull(),
    contentId: id('content_id').notNull(),
    place: text('place', { enum: BLOB_PLACES }).notNull(),
    createdAt: at('created_at').notNull().default(now),
    usedAt: at('used_at').notNull().default(now),
  },
  (t) => [
    primaryKey({ name: 'blobs_pkey', columns: [t.namespaceId, t.sha256] }),
    index('blobs_used').on(t.usedAt),
    wordsCheck('blobs_place_check', t.place, BLOB_PLACES),
  ],
);

export const blobUploads = baton.table(
  'blob_uploads',
  {
    id: id('id').primaryKey(),
    namespaceId: integer('namespace_id').notNull(),
    sizeBytes: id('size_bytes').notNull(),
    receivedBytes: id('received_bytes').notNull().default(sql`0`),
    place: text('place', { enum: BLOB_PLACES }).notNull(),
    expiresAt: at('expires_at').notNull(),
  },
  (t) => [wordsCheck('blob_uploads_place_check', t.place, BLOB_PLACES)],
);

export const blobChunks = baton.table(
  'blob_chunks',
  { contentId: id('content_id').notNull(), byteOffset: id('byte_offset').notNull(), data: bytea('data').notNull() },
  (t) => [primaryKey({ name: 'blob_chunks_pkey', columns: [t.contentId, t.byteOffset] })],
);
