import type { Attempt } from '../attempts/attempt.ts';
import { cleanText } from '../attempts/text.ts';

/** How often one attempt's words go to the heartbeat, which takes the newest to the master at its own pace. */
const everyMs = 100;
const maxBytes = 4_096;

/** What attempts say of their progress, on its way to the heartbeat's thread: the newest words of each, not more often than that. */
export class Sayings {
  readonly #send: (taskId: string, epoch: number, message: string) => void;
  readonly #waiting = new Map<Attempt, string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(send: (taskId: string, epoch: number, message: string) => void) {
    this.#send = send;
  }

  say(attempt: Attempt, message: string): void {
    this.#waiting.set(attempt, cleanText(message, maxBytes));
    // At once where it was quiet: code that blocks the loop after it leaves no other turn.
    if (this.#timer === undefined) {
      this.#flush();
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  #flush(): void {
    if (this.#waiting.size === 0) {
      return;
    }
    for (const [{ taskId, epoch, phase }, message] of this.#waiting) {
      if (phase === 'running') {
        this.#send(taskId, epoch, message);
      }
    }
    this.#waiting.clear();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, everyMs);
    this.#timer.unref();
  }
}
