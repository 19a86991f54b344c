/**
 * Watchers: `node watch.program.ts URL COUNT CONNECTIONS`. Each has a stream of EventService.Watch of its own, over some shared connections,
 * as dashboards behind a proxy have, and hears of every submit, lease and success. Frames of HTTP/2 by Node's own client, without a
 * library, and what is the same for many is decoded once, so that 1 000 fit into one process and what is timed is not this one.
 *
 * Says `ready` when every watcher has heard where it stands. After the word `begin` it gathers delays: from an event's own time, which is
 * Postgres's clock, to the moment when its bytes are here, by this machine's. After `{ events }` it waits until each watcher has heard of
 * so many different ones, or nothing has come for a while, and tells what came.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventType, WatchRequestSchema, WatchResponseSchema } from '@baton/contract';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Percentiles } from './statistics.ts';

/** What it says at the end. */
export interface WatchWord {
  delayMs: Percentiles;
  /** Since the word to begin, of all watchers. */
  events: number;
  messages: number;
  /** Different events, of all that any watcher heard of. */
  known: number;
  /** Of the watcher that heard of least, and of how many any heard more than once. */
  fewest: number;
  repeated: number;
  /** Streams that ended. */
  ended: string[];
}

const [url, countText, connectionsText] = process.argv.slice(2) as [string, string, string];
const count = Number(countText);
const connections = Number(connectionsText);
const AT_ONCE = 40;
const PREFIX = 5;
/** Whole ms: the time of an event has no more. The last one holds all that took longer. */
const LONGEST_MS = 60_000;
const QUIET_MS = 5_000;
const KEPT_MESSAGES = 5_000;

const delays = new Uint32Array(LONGEST_MS + 1);
let longestMs = 0;
let isMeasuring = false;
let messages = 0;
let repeated = 0;
let lastAt = 0;
const ended: string[] = [];
/** Places of events, in the order in which the first watcher heard of them. */
const places = new Map<string, number>();

interface Known {
  place: number;
  atMs: number;
}
/** Many watchers are told the same. */
const decoded = new Map<string, Known[]>();

function read(message: Buffer): Known[] {
  const key = message.toString('latin1');
  let events = decoded.get(key);
  if (events === undefined) {
    events = fromBinary(WatchResponseSchema, message).events.map(({ event }) => {
      const { type, taskId, attempt, time } = event!;
      const name = `${type} ${taskId} ${attempt}`;
      const place = places.get(name) ?? places.size;
      places.set(name, place);
      return { place, atMs: timestampMs(time!) };
    });
    if (decoded.size >= KEPT_MESSAGES) decoded.clear();
    decoded.set(key, events);
  }
  return events;
}

class Watcher {
  heard = 0;
  #seen = new Uint8Array(1_024);
  #rest: Buffer | null = null;
  #onFirst: () => void;

  constructor(stream: ClientHttp2Stream, onFirst: () => void) {
    this.#onFirst = onFirst;
    let status: unknown;
    stream.on('response', (headers) => (status ??= headers['grpc-status']));
    stream.on('trailers', (headers) => (status ??= headers['grpc-status']));
    stream.on('data', (part: Buffer) => this.#take(part));
    stream.on('error', (error) => (status ??= error.message));
    stream.on('close', () => ended.push(String(status)));
  }

  #take(part: Buffer): void {
    let bytes = this.#rest === null ? part : Buffer.concat([this.#rest, part]);
    lastAt = Date.now();
    while (bytes.length >= PREFIX) {
      const end = PREFIX + bytes.readUInt32BE(1);
      if (bytes.length < end) break;
      this.#hear(read(bytes.subarray(PREFIX, end)));
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes.length > 0 ? bytes : null;
  }

  #hear(events: readonly Known[]): void {
    this.#onFirst();
    if (isMeasuring) messages++;
    for (const { place, atMs } of events) {
      if (place >= this.#seen.length) {
        const larger = new Uint8Array(Math.max(place + 1, this.#seen.length * 2));
        larger.set(this.#seen);
        this.#seen = larger;
      }
      if (this.#seen[place]! > 0) repeated++;
      else this.heard++;
      this.#seen[place] = 1;
      if (!isMeasuring) continue;
      const delayMs = Math.max(0, lastAt - atMs);
      longestMs = Math.max(longestMs, delayMs);
      delays[Math.min(LONGEST_MS, delayMs)]!++;
    }
  }
}

class NotServedError extends Error {
  override readonly name = 'NotServedError';
}

function watch(session: ClientHttp2Session): Promise<Watcher> {
  const types = [EventType.TASK_SUBMITTED, EventType.TASK_LEASED, EventType.TASK_SUCCEEDED];
  const request = create(WatchRequestSchema, { subscriptions: [{ name: 'tasks', types }] });
  const message = toBinary(WatchRequestSchema, request);
  const frame = Buffer.alloc(PREFIX + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX);
  const stream = session.request({
    ':method': 'POST',
    ':path': '/baton.v1.EventService/Watch',
    'content-type': 'application/grpc+proto',
    te: 'trailers',
  });
  stream.end(frame);
  return new Promise((resolve, reject) => {
    const watcher: Watcher = new Watcher(stream, () => resolve(watcher));
    stream.on('close', () => reject(new NotServedError(`a watcher was not served: ${ended.at(-1)}`)));
  });
}

function percentilesOf(counts: Uint32Array): Percentiles {
  const samples = counts.reduce((sum, n) => sum + n, 0);
  const at = (percent: number) => {
    const rank = Math.max(1, Math.ceil((percent / 100) * samples));
    let sum = 0;
    return counts.findIndex((n) => {
      sum += n;
      return sum >= rank;
    });
  };
  return { samples, p50: at(50), p95: at(95), p99: at(99), max: longestMs };
}

const watchers: Watcher[] = [];
process.on('message', async (word: 'begin' | { events: number }) => {
  if (word === 'begin') {
    isMeasuring = true;
    return;
  }
  lastAt = Date.now();
  while (watchers.some(({ heard }) => heard < word.events) && Date.now() - lastAt < QUIET_MS) await sleep(20);
  const delayMs = percentilesOf(delays);
  process.send!({
    delayMs,
    events: delayMs.samples,
    messages,
    known: places.size,
    fewest: Math.min(...watchers.map(({ heard }) => heard)),
    repeated,
    ended,
  } satisfies WatchWord);
});
process.on('disconnect', () => process.exit(0));

const sessions = Array.from({ length: Math.min(connections, count) }, () => connect(url));
let next = 0;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < count) watchers.push(await watch(sessions[next++ % sessions.length]!));
  }),
);
process.send!('ready');
