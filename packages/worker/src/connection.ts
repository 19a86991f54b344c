import { BlobService, MasterService, TaskService } from '@baton/contract';
import { fastGzip, isLoopback } from '@baton/server';
import { type Client, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { guardedManager } from './guarded-manager.ts';

/** One HTTP/2 connection to a master, opened when it is needed and opened anew when it broke. */
export interface MasterConnection {
  readonly master: Client<typeof MasterService>;
  readonly tasks: Client<typeof TaskService>;
  readonly blobs: Client<typeof BlobService>;
  /** Cuts the connection: calls in flight fail, the next one opens a new one. For a peer that answers no more. */
  reset(): void;
}

export interface ConnectionOptions {
  /** http://host:port */
  readonly url: string;
  /** A connection that says nothing for so long is asked whether it lives; half-open TCP is found out by that. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** Default `auto`. */
  readonly compression?: Compression;
}

/** Whether messages from 1 KiB on travel compressed (gzip). `auto`: unless the master is on this machine. */
export type Compression = 'auto' | 'gzip' | 'none';

// A master answers with at most 4 MiB of leases; the rest is for what surrounds them.
const maxAnswerBytes = 8 * 1024 * 1024;

export function connectMaster(options: ConnectionOptions): MasterConnection {
  const sessionManager = guardedManager(options.url, {
    pingIntervalMs: options.pingIntervalMs,
    pingTimeoutMs: options.pingTimeoutMs,
  });
  const transport = createGrpcTransport({
    baseUrl: options.url,
    sessionManager,
    readMaxBytes: maxAnswerBytes,
    ...(compresses(options) ? { sendCompression: fastGzip, acceptCompression: [fastGzip] } : { acceptCompression: [] }),
    compressMinBytes: 1024,
  });
  return {
    master: createClient(MasterService, transport),
    tasks: createClient(TaskService, transport),
    blobs: createClient(BlobService, transport),
    reset: () => sessionManager.abort(),
  };
}

// On one machine processors are dearer than bytes: 200 KB of JSON take 2 to 4 ms more of them, and a gain only below 0.5 Gbit/s.
function compresses({ compression = 'auto', url }: ConnectionOptions): boolean {
  return compression === 'gzip' || (compression === 'auto' && !isLoopback(new URL(url).hostname));
}
