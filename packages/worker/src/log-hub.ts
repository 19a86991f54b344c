import type { LogLine } from '@baton/contract';

/** Lines kept for one listener that does not read; beyond, the oldest are dropped. */
const bufferedLines = 1_000;

/** What runs here writes, handed to whoever listens at the moment. */
export class LogHub {
  readonly #listeners = new Set<(line: LogLine) => void>();

  /** Whether anybody listens: lines are not made for nobody. */
  get listened(): boolean {
    return this.#listeners.size > 0;
  }

  publish(line: LogLine): void {
    for (const listener of this.#listeners) {
      listener(line);
    }
  }

  /** Lines as they are written, in batches, of one task or (empty) of all; ends with the signal. */
  async *follow(taskId: string, signal: AbortSignal): AsyncGenerator<LogLine[]> {
    let lines: LogLine[] = [];
    let wake = () => {};
    const listener = (line: LogLine) => {
      if (taskId === '' || line.taskId === taskId) {
        lines.push(line);
        if (lines.length > bufferedLines) {
          lines.shift();
        }
        wake();
      }
    };
    const onAbort = () => wake();
    this.#listeners.add(listener);
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        if (lines.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        const batch = lines;
        lines = [];
        yield batch;
      }
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener('abort', onAbort);
    }
  }
}
