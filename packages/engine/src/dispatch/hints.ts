import { type HintChannel, sendHint } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';

/**
 * What one master tells the others, so that they need not wait until they look by themselves. Nothing is believed for it: a lane that
 * is said to have work is claimed from, a task that is said to have ended is read.
 */
export interface Hints {
  /** Something became ready in this lane. */
  lane(laneId: number): void;
  /** There is something to say to this session. */
  orders(sessionId: string): void;
  /** A task reached its end. */
  ended(taskId: string): void;
  /** A run has something to do. */
  run(): void;
  /** Events were written. */
  changed(): void;
  /** So many masters live, this one included; to be told every few seconds. Nothing is sent while no other does. */
  living(masters: number): void;
  /** What others say arrives here: this master has heard itself since it listens. A transaction pooler passes nothing on. */
  areHeard(): boolean;
  start(): void;
  stop(): Promise<void>;
}

/** What is done with the hints of others. */
export interface HintSinks {
  onLanes(laneIds: readonly number[]): void;
  onOrders(sessionIds: readonly string[]): void;
  /** Null: so many that they were not named. */
  onEnded(taskIds: readonly string[] | null): void;
  onRuns(): void;
  onChanged(): void;
  /** Hints may have been missed until now. */
  onGap(): void;
}

/** A hint on its way. Names are short because a payload has to stay below 8 000 bytes. */
interface Payload {
  /** Of the sender, who hears itself. */
  m: string;
  /** Lanes. */
  l?: number[];
  /** Sessions with orders. */
  s?: string[];
  /** Ended tasks in base 36, with commas; "*": too many. */
  e?: string;
  r?: 1;
  /** Events. */
  v?: 1;
}

/** A NOTIFY takes a lock that all commits share; at this pace it costs nothing that can be measured. */
const EVERY_MS = 20;
const MAX_BYTES = 7_500;
/** What lanes and sessions may take of it, each. */
const SHARE_BYTES = 2_000;
const NAMED_BYTES = MAX_BYTES - 2 * SHARE_BYTES - 200;
/** Everybody who waits for a task is woken at most this often by hints that name none. */
const ALL_EVERY_MS = 500;

export function createHints(env: EngineEnvironment, channel: HintChannel, sinks: HintSinks): Hints {
  const me = Math.floor(env.random() * 2 ** 48).toString(36);
  let others = false;
  let stopped = false;
  let sending = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let lanes = new Set<number>();
  let sessions = new Set<string>();
  let ended: string[] = [];
  let endedBytes = 0;
  let runs = false;
  let changes = false;
  let allAt = 0;
  let heard = false;

  /** Sends soon what has gathered; never two at a time. */
  const soon = () => {
    if (timer !== undefined || sending || stopped) return;
    timer = setTimeout(() => void flush(), EVERY_MS);
  };

  async function flush(): Promise<void> {
    timer = undefined;
    const payload: Payload = { m: me };
    let bytes = 0;
    for (const id of lanes) {
      bytes += String(id).length + 1;
      if (bytes > SHARE_BYTES) break;
      payload.l ??= [];
      payload.l.push(id);
      lanes.delete(id);
    }
    bytes = 0;
    for (const id of sessions) {
      bytes += id.length + 3;
      if (bytes > SHARE_BYTES) break;
      payload.s ??= [];
      payload.s.push(id);
      sessions.delete(id);
    }
    if (endedBytes > NAMED_BYTES) payload.e = '*';
    else if (ended.length > 0) payload.e = ended.join(',');
    ended = [];
    endedBytes = 0;
    if (runs) payload.r = 1;
    if (changes) payload.v = 1;
    runs = false;
    changes = false;
    sending = true;
    try {
      await channel.notify(JSON.stringify(payload));
    } catch (error) {
      // The others look by themselves.
      env.log.warn('hint not sent', { error: String(error) });
    } finally {
      sending = false;
      if (lanes.size > 0 || sessions.size > 0 || ended.length > 0 || runs || changes) soon();
    }
  }

  function forget(): void {
    lanes = new Set();
    sessions = new Set();
    ended = [];
    endedBytes = 0;
    runs = false;
    changes = false;
  }

  function receive(text: string): void {
    const payload = read(text);
    if (payload?.m === me) heard = true;
    if (!payload || payload.m === me) return;
    others = true;
    if (payload.l) sinks.onLanes(payload.l);
    if (payload.s) sinks.onOrders(payload.s);
    if (payload.e === '*') {
      if (env.now() - allAt >= ALL_EVERY_MS) {
        allAt = env.now();
        sinks.onEnded(null);
      }
    } else if (payload.e) sinks.onEnded(payload.e.split(',').map(fromBase36));
    if (payload.r) sinks.onRuns();
    if (payload.v) sinks.onChanged();
  }

  return {
    lane(laneId) {
      if (!others) return;
      lanes.add(laneId);
      soon();
    },
    orders(sessionId) {
      if (!others) return;
      sessions.add(sessionId);
      soon();
    },
    ended(taskId) {
      if (!others) return;
      changes = true;
      soon();
      // Beyond what is sent nothing is kept: who waits is told to look.
      if (endedBytes > NAMED_BYTES) return;
      const name = BigInt(taskId).toString(36);
      ended.push(name);
      endedBytes += name.length + 1;
    },
    run() {
      if (!others) return;
      runs = true;
      soon();
    },
    changed() {
      if (!others) return;
      changes = true;
      soon();
    },
    living(masters) {
      others = masters > 1;
      if (!others) forget();
    },
    areHeard: () => heard,
    start() {
      channel.listen(receive, () => {
        heard = false;
        // Those that live learn at once that they are not alone.
        void channel.notify(JSON.stringify({ m: me } satisfies Payload)).catch(() => {});
        sinks.onGap();
      });
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await channel.end();
    },
  };
}

/** Of an edge function: at once, on the connection that it has, and nobody waits for it. It cannot know whether any master lives. */
export function createEdgeHints(env: EngineEnvironment): Pick<Hints, 'lane' | 'orders' | 'run'> {
  const send = (payload: Omit<Payload, 'm'>) =>
    void sendHint(env.pools.api, JSON.stringify({ m: 'edge', ...payload, v: 1 } satisfies Payload)).catch(() => {});
  return {
    lane: (laneId) => send({ l: [laneId] }),
    orders: (sessionId) => send({ s: [sessionId] }),
    run: () => send({ r: 1 }),
  };
}

/** Where there is no channel. */
export const noHints: Hints = {
  lane() {},
  orders() {},
  ended() {},
  run() {},
  changed() {},
  living() {},
  areHeard: () => false,
  start() {},
  stop: async () => {},
};

/** Anybody who may connect to the database can write to the channel. */
function read(text: string): Payload | null {
  try {
    const value = JSON.parse(text) as Payload;
    const fits =
      typeof value?.m === 'string' &&
      (value.l === undefined || (Array.isArray(value.l) && value.l.every(Number.isSafeInteger))) &&
      (value.s === undefined || (Array.isArray(value.s) && value.s.every((id) => /^\d{1,19}$/.test(String(id))))) &&
      (value.e === undefined || /^(\*|[0-9a-z]{1,13}(,[0-9a-z]{1,13})*)$/.test(value.e));
    return fits ? value : null;
  } catch {
    return null;
  }
}

function fromBase36(text: string): string {
  let value = 0n;
  for (const digit of text) value = value * 36n + BigInt(Number.parseInt(digit, 36));
  return value.toString();
}
