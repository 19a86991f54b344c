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

/** Takes SIGINT, SIGTERM and SIGHUP (the terminal was closed) from here on. `abort` counts as one. */
export function takeStopSignals(abort?: AbortSignal): StopSignals {
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<string>();
  let count = 0;
  const onSignal = (signal: string): void => {
    count += 1;
    if (count === 1) first.resolve(signal);
    else second.resolve(signal);
  };
  const onAbort = (): void => onSignal('abort');
  for (const signal of SIGNALS) process.on(signal, onSignal);
  abort?.addEventListener('abort', onAbort);
  return {
    first: first.promise,
    second: second.promise,
    get hasCome() {
      return count > 0;
    },
    dispose() {
      for (const signal of SIGNALS) process.off(signal, onSignal);
      abort?.removeEventListener('abort', onAbort);
    },
  };
}
