const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What a person or `baton stop` says to a command that stays. */
export interface StopSignals {
  /** Resolves at the first signal, with its name. */
  readonly first: Promise<string>;
  /** Resolves at the second one: now, and not gracefully. */
  readonly second: Promise<string>;
  readonly hasCome: boolean;
  dispose(): void;
}

export interface StopSignalOptions {
  /** Counts as a signal. */
  readonly abort?: AbortSignal;
  /** The end of stdin counts as a signal. Default false. */
  readonly stdin?: boolean;
}

/** Takes SIGINT, SIGTERM and SIGHUP (the terminal was closed) from here on. */
export function takeStopSignals({ abort, stdin = false }: StopSignalOptions = {}): StopSignals {
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<string>();
  let count = 0;
  const onSignal = (signal: string): void => {
    count += 1;
    if (count === 1) first.resolve(signal);
    else second.resolve(signal);
  };
  const onAbort = (): void => onSignal('abort');
  const onEnd = (): void => onSignal('the end of stdin');
  for (const signal of SIGNALS) process.on(signal, onSignal);
  abort?.addEventListener('abort', onAbort);
  if (stdin) process.stdin.once('end', onEnd).resume();
  return {
    first: first.promise,
    second: second.promise,
    get hasCome() {
      return count > 0;
    },
    dispose() {
      for (const signal of SIGNALS) process.off(signal, onSignal);
      abort?.removeEventListener('abort', onAbort);
      if (stdin) process.stdin.off('end', onEnd).pause().unref();
    },
  };
}
