import postgres from 'postgres';
import { openSql, type Sql } from '../database/connection.ts';

/** The channel on which masters of one database give each other hints. */
export const HINT_CHANNEL = 'baton';

/** What carries hints between masters. A hint may be lost, late or repeated: whoever gets one looks for itself. */
export interface HintChannel {
  /** Sends one payload, below 8 000 bytes, to everybody who listens, the sender included. */
  notify(payload: string): Promise<void>;
  /**
   * Hands on each payload from now on. Listens again whenever that has ended; `onListening` tells each time that it has begun, and
   * that hints may have been missed before.
   */
  listen(onPayload: (payload: string) => void, onListening: () => void): void;
  end(): Promise<void>;
}

export interface HintChannelOptions {
  /** The listening connection is asked this often whether it lives. Default 10 000 ms. */
  checkEveryMs?: number;
  /** It is given up when it has not answered for so long. Default 3 000 ms. */
  answerMs?: number;
  onLost?: (why: string) => void;
}

/** One statement of its own, after the commit that it is about: a NOTIFY takes a lock that all commits of the cluster share. */
export async function sendHint(sql: Sql, payload: string): Promise<void> {
  await sql.unsafe(`select pg_notify('${HINT_CHANNEL}', $1)`, [payload]);
}

/**
 * Hints over LISTEN and NOTIFY, on two connections of their own. The driver's `listen` is not used: when the server is away at the
 * moment of its one try to listen again it never listens any more, and it does not notice a connection whose other end is gone
 * without a word. Here each life of the connection is one driver of its own, asked now and then whether it lives.
 */
export function openHintChannel(url: string, options: HintChannelOptions = {}): HintChannel {
  const { checkEveryMs = 10_000, answerMs = 3_000, onLost } = options;
  const sending = openSql(url, { max: 1, applicationName: 'baton hints' });
  const ended = Promise.withResolvers<void>();
  let over = false;
  let listening: Promise<void> | null = null;

  /** One life of the listening connection; resolves with why it ended. */
  async function live(onPayload: (payload: string) => void, onListening: () => void): Promise<string> {
    const closed = Promise.withResolvers<string>();
    // `onnotify` and `onclose` are what the driver's own `listen` is made of.
    const sql = postgres(url, {
      max: 1,
      idle_timeout: undefined,
      max_lifetime: null,
      fetch_types: false,
      connect_timeout: Math.ceil(answerMs / 1000),
      onnotice: () => {},
      onclose: () => closed.resolve('the connection was closed'),
      onnotify: (_channel: string, payload: string) => onPayload(payload),
      connection: { application_name: 'baton listen' },
    } as postgres.Options<Record<string, never>>);
    const ask = (statement: string) =>
      Promise.race([
        sql.unsafe(statement).then(
          () => '',
          (error) => String(error),
        ),
        closed.promise,
        later(answerMs).then(() => 'no answer'),
      ]);
    try {
      let why = await ask(`listen ${HINT_CHANNEL}`);
      if (why === '') onListening();
      while (why === '') {
        why = await Promise.race([
          closed.promise,
          ended.promise.then(() => 'ended'),
          later(checkEveryMs).then(() => ''),
        ]);
        if (why === '') why = await ask('select 1');
      }
      return why;
    } finally {
      void sql.end({ timeout: 0 }).catch(() => {});
    }
  }

  async function keepListening(onPayload: (payload: string) => void, onListening: () => void): Promise<void> {
    for (let failures = 0; !over; ) {
      const why = await live(onPayload, () => {
        failures = 0;
        onListening();
      });
      if (over) return;
      onLost?.(why);
      await Promise.race([later(Math.min(5_000, 50 * 2 ** failures++) * (0.5 + Math.random() / 2)), ended.promise]);
    }
  }

  return {
    notify: (payload) => sendHint(sending, payload),
    listen(onPayload, onListening) {
      listening ??= keepListening(onPayload, onListening);
    },
    async end() {
      over = true;
      ended.resolve();
      await listening;
      await sending.end({ timeout: 1 });
    },
  };
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    (timer as { unref?: () => void }).unref?.();
  });
}
