import { open, rename, rm } from 'node:fs/promises';
import type { BlobContent } from '@baton/client';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { sizeText } from '../terminal/size.ts';
import type { GetFlags } from './blob-flags.ts';

/** `baton blob get SHA256`. */
export async function get(this: CliContext, flags: GetFlags, sha256: string): Promise<void> {
  const { output } = flags;
  const baton = await this.connect(flags);
  const content = baton.blobs.get(sha256, { signal: this.signal });
  if (output === undefined) {
    for await (const part of content) await this.screen.bytes(part);
    return;
  }
  const size = await writeWhole(output, content);
  this.screen.note({ text: `${sizeText(size)} are in ${output}`, style: 'dim' });
}

/** Under another name until it is whole: what has the name is the blob. */
export async function writeWhole(file: string, content: BlobContent): Promise<number> {
  const partial = `${file}.${process.pid}.part`;
  const handle = await open(partial, 'w').catch((error: Error) => {
    throw usageError(`${file} cannot be written: ${error.message}`);
  });
  try {
    let size = 0;
    for await (const part of content) {
      await handle.writeFile(part);
      size += part.byteLength;
    }
    await handle.close();
    await rename(partial, file);
    return size;
  } catch (error) {
    await handle.close().catch(() => {});
    await rm(partial, { force: true });
    throw error;
  }
}
