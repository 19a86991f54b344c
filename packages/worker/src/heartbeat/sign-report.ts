import { type HeldLease, HeldLeaseSchema, type TaskSign, TaskSignSchema } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import type { RunningSign, SignBoard } from './sign-board.ts';

/** Shorter work is over before a master could do anything with the news that it has begun. */
const startedAfterMs = 100;

/** What one heartbeat says of running tasks. */
export interface Report {
  readonly signs: TaskSign[];
  /** Work that has begun since the last accepted heartbeat. */
  readonly started: HeldLease[];
  /** The master has it. */
  accepted(): void;
}

/**
 * What the master does not know yet of what runs: signs of tasks that have a progress timeout go with every heartbeat, fractions and
 * messages when they have changed, a start once. Lives with the heartbeat, in its thread.
 */
export class SignReport {
  readonly #board: SignBoard;
  /** Said, and not accepted yet; by task and epoch. */
  readonly #messages = new Map<string, string>();
  readonly #fractions = new Map<string, number>();
  readonly #started = new Set<string>();

  constructor(board: SignBoard) {
    this.#board = board;
  }

  say(taskId: string, epoch: number, message: string): void {
    this.#messages.set(keyOf({ taskId, epoch }), message);
  }

  /** @param nowMs of `monotonicMs` */
  take(nowMs: number): Report {
    const running = this.#board.read();
    this.#forget(new Set(running.map(keyOf)));
    const told = running.filter((sign) => this.#isNews(sign));
    const started = running.filter(
      (sign) => nowMs - sign.startedMs >= startedAfterMs && !this.#started.has(keyOf(sign)),
    );
    const messages = new Map(told.map((sign) => [keyOf(sign), this.#messages.get(keyOf(sign))]));
    return {
      signs: told.map((sign) =>
        create(TaskSignSchema, {
          taskId: sign.taskId,
          epoch: sign.epoch,
          silentMs: wholeMs(nowMs - sign.signMs),
          progressTimeoutMs: BigInt(sign.timeoutMs),
          fraction: Number.isNaN(sign.fraction) ? -1 : sign.fraction,
          message: messages.get(keyOf(sign)) ?? '',
        }),
      ),
      started: started.map(({ taskId, epoch, startedMs }) =>
        create(HeldLeaseSchema, { taskId, epoch, started: true, ranMs: wholeMs(nowMs - startedMs) }),
      ),
      accepted: () => {
        for (const sign of started) {
          this.#started.add(keyOf(sign));
        }
        for (const sign of told) {
          const key = keyOf(sign);
          this.#fractions.set(key, sign.fraction);
          // Not what was said since.
          if (this.#messages.get(key) === messages.get(key)) {
            this.#messages.delete(key);
          }
        }
      },
    };
  }

  #isNews(sign: RunningSign): boolean {
    const key = keyOf(sign);
    return (
      sign.timeoutMs > 0 ||
      this.#messages.has(key) ||
      !(Number.isNaN(sign.fraction) || this.#fractions.get(key) === sign.fraction)
    );
  }

  #forget(running: ReadonlySet<string>): void {
    for (const known of [this.#messages, this.#fractions, this.#started]) {
      for (const key of known.keys()) {
        if (!running.has(key)) {
          known.delete(key);
        }
      }
    }
  }
}

function keyOf({ taskId, epoch }: { taskId: string; epoch: number }): string {
  return `${taskId}.${epoch}`;
}

function wholeMs(ms: number): bigint {
  return BigInt(Math.max(0, Math.round(ms)));
}
