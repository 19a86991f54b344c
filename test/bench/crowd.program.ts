/**
 * Pretended workers: `node crowd.program.ts URL COUNT FIRST`. Each has a session and a connection of its own and speaks the real protocol
 * (RegisterWorker, an Exchange that waits for work as a message of CallStream, Heartbeat at the master's own interval), and has nothing behind it: no threads, no
 * machine that is measured, no tasks. Frames of HTTP/2 by Node's own client, without a library, so that 10 000 fit into one process.
 *
 * Says `ready` when all are registered and wait; after the word `begin` it gathers the times of heartbeats, and tells them after `end`.
 */
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CallStreamRequestSchema,
  CallStreamResponseSchema,
  ExchangeRequestSchema,
  HeartbeatRequestSchema,
  RegisterWorkerRequestSchema,
  RegisterWorkerResponseSchema,
} from '@baton/contract';
import { FrameReader, framed } from '@baton/server';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';

/** What it says at the end. */
export interface CrowdWord {
  heartbeatMs: number[];
  /** Calls that went wrong, by what was said. */
  failures: Record<string, number>;
}

const [url, countText, firstText] = process.argv.slice(2) as [string, string, string];
const count = Number(countText);
const AT_ONCE = 40;
const PREFIX = 5;
const MAX_BYTES = 8 * 1024 * 1024;

let heartbeatMs: number[] = [];
let failures: Record<string, number> = {};
let isMeasuring = false;

class CallError extends Error {
  override readonly name = 'CallError';
}

const headersOf = (method: string) => ({
  ':method': 'POST',
  ':path': `/baton.v1.MasterService/${method}`,
  'content-type': 'application/grpc+proto',
  te: 'trailers',
});

function call(session: ClientHttp2Session, method: string, message: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headersOf(method));
    const parts: Buffer[] = [];
    let status: unknown;
    stream.on('response', (headers) => (status ??= headers['grpc-status']));
    stream.on('trailers', (headers) => (status ??= headers['grpc-status']));
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('error', reject);
    stream.on('close', () => {
      if (status === '0') resolve(Buffer.concat(parts).subarray(PREFIX));
      else reject(new CallError(`${method}: status ${String(status)}`));
    });
    stream.end(framed(message, 0));
  });
}

const note = (error: unknown) => {
  const { message } = error as Error;
  failures[message] = (failures[message] ?? 0) + 1;
};

async function open(index: number): Promise<{ session: ClientHttp2Session; sessionId: string; everyMs: number }> {
  const session = connect(url);
  session.on('error', note);
  const answer = await call(
    session,
    'RegisterWorker',
    toBinary(
      RegisterWorkerRequestSchema,
      create(RegisterWorkerRequestSchema, {
        name: `pretended-${index}`,
        instanceId: `pretended-${index}-${process.pid}`,
        protocolVersion: 4,
        version: '0',
        capabilities: { executors: ['function'], kinds: ['noop'], slots: 1 },
      }),
    ),
  );
  const { sessionId, heartbeatInterval } = fromBinary(RegisterWorkerResponseSchema, answer);
  return { session, sessionId, everyMs: durationMs(heartbeatInterval!) };
}

/** Exchanges as workers make them: as messages of one stream, the next as soon as one is answered. */
async function poll(session: ClientHttp2Session, sessionId: string): Promise<void> {
  for (let number = 1n; ; ) {
    const stream = session.request(headersOf('CallStream'));
    const ask = () => {
      const value = create(ExchangeRequestSchema, {
        sessionId,
        number,
        offer: { number, freeSlots: 1 },
        waitMs: 20_000,
      });
      const request = create(CallStreamRequestSchema, { number, call: { case: 'exchange', value } });
      stream.write(framed(toBinary(CallStreamRequestSchema, request), 0));
      number++;
    };
    const frames = new FrameReader(
      MAX_BYTES,
      (bytes) => {
        const { answer } = fromBinary(CallStreamResponseSchema, bytes);
        if (answer.case !== 'exchange') note(new CallError(`Exchange: ${JSON.stringify(answer.value)}`));
        ask();
      },
      note,
    );
    stream.on('data', (part: Buffer) => frames.push(part));
    stream.on('error', note);
    ask();
    await once(stream, 'close');
    note(new CallError('CallStream has ended'));
    await sleep(1_000);
  }
}

async function beat(session: ClientHttp2Session, sessionId: string, everyMs: number): Promise<void> {
  // As many workers that began at other moments: their beats are spread over the interval.
  await sleep(Math.random() * everyMs);
  for (let number = 1n; ; number++) {
    const request = create(HeartbeatRequestSchema, { sessionId, number, digest: {}, metrics: {} });
    const at = performance.now();
    await call(session, 'Heartbeat', toBinary(HeartbeatRequestSchema, request)).then(
      () => isMeasuring && heartbeatMs.push(performance.now() - at),
      note,
    );
    await sleep(everyMs - (performance.now() - at));
  }
}

process.on('message', (word) => {
  if (word === 'begin') {
    isMeasuring = true;
    heartbeatMs = [];
    failures = {};
  } else process.send!({ heartbeatMs, failures } satisfies CrowdWord);
});
process.on('disconnect', () => process.exit(0));

let next = Number(firstText);
const last = next + count;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < last) {
      const { session, sessionId, everyMs } = await open(next++);
      void poll(session, sessionId);
      void beat(session, sessionId, everyMs);
    }
  }),
);
process.send!('ready');
