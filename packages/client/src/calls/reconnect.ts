import { type CallOptions, type CallSettings, canceled, isPassing, pauseBeforeRetry } from './call.ts';
import { type BatonError, toBatonError } from './error.ts';

/** What a consumer makes of each message: go on, or the stream has said all that it had to. */
export type StreamStep = 'more' | 'end';

interface Reconnecting<Message, Item> {
  /** Opens the stream; called again after each interruption, so that it names the place to go on from. */
  readonly open: (options: CallOptions) => AsyncIterable<Message>;
  /** What to hand on for one message (nothing, one or several), and whether it was the last. */
  readonly take: (message: Message) => { readonly items: readonly Item[]; readonly step: StreamStep };
  /** Whether the server's own end of the stream, without an error, is its end; otherwise it is opened again. */
  readonly endsWithServer: boolean;
}

/**
 * A server stream that is opened again when it breaks. The first connection follows the rule of reads (a few tries);
 * once a message came, it goes on trying for `retry.reconnectMs` of silence. Ends when the consumer leaves the loop, the
 * signal is aborted (then it throws `BatonError` canceled), or the stream has said all.
 */
export async function* reconnecting<Message, Item>(
  settings: CallSettings,
  options: CallOptions | undefined,
  stream: Reconnecting<Message, Item>,
): AsyncGenerator<Item, void, undefined> {
  const { retry } = settings;
  const signal = options?.signal;
  let wasConnected = false;
  let failures = 0;
  let silentSince = 0;
  for (;;) {
    // Leaving the loop must end the request too, and a stream's iterator alone does not promise that.
    const leave = new AbortController();
    const both = signal ? AbortSignal.any([signal, leave.signal]) : leave.signal;
    let broken: BatonError | undefined;
    try {
      // No time limit: a stream is quiet while nothing happens.
      for await (const message of stream.open({ signal: both, timeoutMs: 0 })) {
        wasConnected = true;
        failures = 0;
        const { items, step } = stream.take(message);
        yield* items;
        if (step === 'end') return;
      }
      if (stream.endsWithServer) return;
    } catch (thrown) {
      if (signal?.aborted) throw canceled(signal.reason);
      broken = toBatonError(thrown);
      if (!isPassing(broken)) throw broken;
    } finally {
      leave.abort();
    }
    failures += 1;
    if (failures === 1) silentSince = performance.now();
    const givenUp = wasConnected
      ? performance.now() - silentSince > retry.reconnectMs
      : broken !== undefined && failures >= retry.attempts;
    const reason = broken ?? toBatonError('the server ended the stream');
    if (givenUp) throw reason;
    await pauseBeforeRetry(retry, failures, reason, signal);
  }
}
