import { BlobService, MasterService, TaskService } from '@baton/contract';
import { fastGzip, isLoopback } from '@baton/server';
import { type Client, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { CallStreamTransport } from './call-stream.ts';
import { guardedManager } from './guarded-manager.ts';
import { grpcStreams } from './message-stream.ts';
import { isVerdict } from './refusal.ts';
import { Rotation, type Way } from './rotation.ts';

/**
 * The way to the masters: one HTTP/2 connection to one of them at a time, opened when it is needed and opened anew when it broke. When a
 * call comes to nothing there (no connection, no answer in time, an error of the moment), the calls after it go to the next
 * master; the call itself is whoever made it's to repeat. Sessions live in Postgres, so each call may go to any master.
 */
export interface MasterConnection {
  readonly master: Client<typeof MasterService>;
  readonly tasks: Client<typeof TaskService>;
  readonly blobs: Client<typeof BlobService>;
  /** Of the master that the next call goes to. */
  readonly url: string;
  /** How many masters there are. */
  readonly count: number;
  /**
   * For calls that may be made twice and that nobody repeats: makes it at one master after the other, each once, until one answers.
   * Throws what the last one threw.
   */
  atAny<T>(call: () => Promise<T>): Promise<T>;
  /** Goes on at the next master, if the next call would go to this one. False when it would not, or there is no other. */
  leave(url: string): boolean;
  /** Cuts connections on which a call had no answer: calls in flight fail, the next one opens a new one. For peers that answer no more. */
  reset(): void;
  /** Cuts everything. */
  close(): void;
}

/** All of it can be handed to a thread. */
export interface ConnectionOptions {
  /** Of masters of one Postgres, each http://host:port; at least one. The first is begun with. */
  readonly urls: readonly string[];
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

/** @param onMove calls go to another master from now on */
export function connectMasters(
  options: ConnectionOptions,
  onMove?: (url: string, from: string) => void,
): MasterConnection {
  const rotation = new Rotation(
    options.urls.map((url) => wayTo(url, options)),
    onMove,
  );
  const count = options.urls.length;
  return {
    master: createClient(MasterService, rotation),
    tasks: createClient(TaskService, rotation),
    blobs: createClient(BlobService, rotation),
    get url() {
      return rotation.url;
    },
    count,
    async atAny(call) {
      for (let left = count - 1; ; left--) {
        try {
          return await call();
        } catch (error) {
          if (left === 0 || isVerdict(ConnectError.from(error))) {
            throw error;
          }
        }
      }
    },
    leave: (url) => rotation.leave(url),
    reset: () => rotation.cutSilent(),
    close: () => rotation.cutAll(),
  };
}

function wayTo(url: string, options: ConnectionOptions): Way {
  const sessionManager = guardedManager(url, {
    pingIntervalMs: options.pingIntervalMs,
    pingTimeoutMs: options.pingTimeoutMs,
  });
  const compresses = compressesTo(url, options.compression);
  const transport = createGrpcTransport({
    baseUrl: url,
    sessionManager,
    readMaxBytes: maxAnswerBytes,
    ...(compresses ? { sendCompression: fastGzip, acceptCompression: [fastGzip] } : { acceptCompression: [] }),
    compressMinBytes: 1024,
  });
  const streams = grpcStreams({ manager: sessionManager, compresses, maxAnswerBytes });
  return { url, transport: new CallStreamTransport(transport, streams), cut: () => sessionManager.abort() };
}

// On one machine processors are dearer than bytes: 200 KB of JSON take 2 to 4 ms more of them, and a gain only below 0.5 Gbit/s.
function compressesTo(url: string, compression: Compression = 'auto'): boolean {
  return compression === 'gzip' || (compression === 'auto' && !isLoopback(new URL(url).hostname));
}
