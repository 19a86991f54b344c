import { Worker } from 'node:worker_threads';
import type { HeldLease } from '@baton/contract';
import { createLoadMeter } from '@baton/hardware';
import type { Logger } from '@baton/telemetry';
import { type ConnectionOptions, connectMasters } from '../calls/connection.ts';
import type { MachineHealthInit } from './health-message.ts';
import { type HeartbeatEvent, HeartbeatLoop, type HeartbeatSession } from './heartbeat-loop.ts';
import type { SharedBuffers, SharedState } from './shared-state.ts';

export type HeartbeatCommand =
  | { readonly type: 'begin'; readonly session: HeartbeatSession }
  | { readonly type: 'end' }
  | { readonly type: 'held'; readonly sessionId: string; readonly held: HeldLease[] }
  /** What a running attempt says of its progress. */
  | { readonly type: 'said'; readonly taskId: string; readonly epoch: number; readonly message: string }
  /** How the machine feels, as judged at a time of `monotonicMs`. Goes with each heartbeat from then on. */
  | { readonly type: 'health'; readonly health: MachineHealthInit; readonly judgedAtMs: number }
  | { readonly type: 'beat' };

/** What the thread says. */
export type HeartbeatMessage = HeartbeatEvent | { readonly type: 'ready' };

export interface HeartbeatThreadData {
  readonly namespace: string;
  readonly connection: ConnectionOptions;
  readonly shared: SharedBuffers;
  readonly stampEveryMs: number;
}

export interface HeartbeatOptions {
  readonly namespace: string;
  /** Of the masters, in the order in which this worker turns to them. */
  readonly masterUrls: readonly string[];
  readonly shared: SharedState;
  /** In a thread of its own, so that a blocked main loop keeps its leases; otherwise in the main loop. */
  readonly inThread: boolean;
  readonly stampEveryMs: number;
  readonly log: Logger;
  readonly onEvent: (event: HeartbeatEvent) => void;
}

/** The heartbeat as the rest of the worker sees it. One for the worker's life; sessions come and go. */
export interface Heartbeat {
  /** Resolves when it can renew a session: a thread takes a while to begin on a busy machine, and lease time does not wait. */
  readonly ready: Promise<void>;
  send(command: HeartbeatCommand): void;
  close(): Promise<void>;
}

export function startHeartbeat(options: HeartbeatOptions): Heartbeat {
  const connection: ConnectionOptions = { urls: options.masterUrls, pingIntervalMs: 5_000, pingTimeoutMs: 3_000 };
  return options.inThread ? startThread(options, connection) : startInMainLoop(options, connection);
}

function startInMainLoop(options: HeartbeatOptions, connectTo: ConnectionOptions): Heartbeat {
  const connection = connectMasters(connectTo);
  const loop = new HeartbeatLoop({
    namespace: options.namespace,
    call: (request, timeoutMs) => connection.master.heartbeat(request, { timeoutMs }),
    masters: connection,
    reset: connection.reset,
    shared: options.shared,
    load: createLoadMeter(),
    stampEveryMs: options.stampEveryMs,
    emit: options.onEvent,
  });
  return {
    ready: Promise.resolve(),
    send(command) {
      switch (command.type) {
        case 'begin':
          loop.begin(command.session);
          break;
        case 'end':
          loop.end();
          break;
        case 'held':
          loop.sendHeld(command.sessionId, command.held);
          break;
        case 'said':
          loop.say(command.taskId, command.epoch, command.message);
          break;
        case 'health':
          loop.noteHealth(command.health, command.judgedAtMs);
          break;
        case 'beat':
          loop.beat();
          break;
      }
    },
    async close() {
      loop.end();
      connection.close();
    },
  };
}

function startThread(options: HeartbeatOptions, connection: ConnectionOptions): Heartbeat {
  const { log } = options;
  // The source runs as .ts; a packed runtime has the same file beside it as .js.
  const file = import.meta.url.endsWith('.ts')
    ? new URL('./heartbeat-thread.ts', import.meta.url)
    : new URL('./heartbeat-thread.js', import.meta.url);
  const data: HeartbeatThreadData = {
    namespace: options.namespace,
    connection,
    shared: options.shared.buffers,
    stampEveryMs: options.stampEveryMs,
  };
  let session: HeartbeatCommand | undefined;
  let health: HeartbeatCommand | undefined;
  let closed = false;
  const ready = Promise.withResolvers<void>();
  let thread = start();

  function start(): Worker {
    const worker = new Worker(file, { name: 'baton-heartbeat', workerData: data });
    worker.on('message', (message: HeartbeatMessage) => {
      if (message.type !== 'ready') {
        options.onEvent(message);
        return;
      }
      ready.resolve();
      // From here on the exchange keeps the process; a thread that has nothing to renew does not.
      worker.unref();
    });
    worker.on('error', (error) => log.error('heartbeat thread failed', { error }));
    worker.on('exit', (code) => {
      if (!closed) {
        // It never ends by itself. The session goes on in a new one, its lease time counted as before at the worst.
        log.error('heartbeat thread ended', { code });
        setTimeout(() => {
          if (!closed) {
            thread = start();
            for (const command of [health, session]) {
              if (command !== undefined) {
                thread.postMessage(command);
              }
            }
          }
        }, 1_000).unref();
      }
    });
    return worker;
  }

  return {
    ready: ready.promise,
    send(command) {
      if (command.type === 'begin') {
        session = command;
      } else if (command.type === 'end') {
        session = undefined;
      } else if (command.type === 'health') {
        health = command;
      }
      thread.postMessage(command);
    },
    async close() {
      closed = true;
      ready.resolve();
      await thread.terminate();
    },
  };
}
