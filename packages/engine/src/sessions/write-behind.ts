/** What need not be written at once, written together a little later; never two writes at a time. */
export interface WriteBehind {
  /** There is something to write. */
  soon(): void;
  /** Nothing is written any more; what is under way ends. */
  stop(): Promise<void>;
}

/** @param write all that there is; sees to its own errors */
export function createWriteBehind(afterMs: number, write: () => Promise<void>): WriteBehind {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let writing: Promise<void> | null = null;
  let again = false;
  let stopped = false;

  const soon = () => {
    if (stopped || timer !== undefined) return;
    if (writing) again = true;
    else timer = setTimeout(begin, afterMs);
  };

  const begin = () => {
    timer = undefined;
    again = false;
    writing = write().finally(() => {
      writing = null;
      if (again) soon();
    });
  };

  return {
    soon,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await writing;
    },
  };
}
