import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Compression } from '@connectrpc/connect/protocol';
import { compressionGzip } from '@connectrpc/connect-node';

// The fastest level: most answers go over loopback or a local network, where CPU is dearer than bytes.
const gzipFast = promisify(gzip);

/** For servers and clients of Connect on Node. What it reads is bounded by what it becomes. */
export const fastGzip: Compression = {
  ...compressionGzip,
  compress: (bytes) => gzipFast(bytes, { level: 1 }) as Promise<Uint8Array<ArrayBuffer>>,
};

/** Whether a list such as that of Accept-Encoding names gzip, which is the only compression here. */
export function acceptsGzip(accepted: string | undefined): boolean {
  return accepted !== undefined && /(?:^|,)\s*gzip\s*(?:,|$)/.test(accepted);
}
