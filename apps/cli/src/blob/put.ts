import { openAsBlob } from 'node:fs';
import type { BlobData } from '@baton/client';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { sizeText } from '../terminal/size.ts';
import type { PutFlags } from './blob-flags.ts';

/** `baton blob put FILE`. */
export async function put(this: CliContext, flags: PutFlags, file: string): Promise<void> {
  const data = await dataOf(file);
  const baton = await this.connect(flags);
  const encoding = flags.json ? 'json' : 'bytes';
  const { sha256, sizeBytes } = await baton.blobs.put(data, { encoding, signal: this.signal });
  this.record({ sha256, size_bytes: sizeBytes });
  if (flags.output === 'json') {
    // As a submit takes it: input_blob of a TaskSpec, blobInput of the client.
    this.screen.json({ sha256, sizeBytes, encoding });
    return;
  }
  this.screen.line(sha256);
  this.screen.note({ text: `${sizeText(sizeBytes)} are kept`, style: 'dim' });
}

async function dataOf(file: string): Promise<BlobData> {
  if (file === '-') return process.stdin;
  try {
    return await openAsBlob(file);
  } catch (error) {
    throw usageError(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}
