/** The most work of one evaluation, in visits of a part of the expression. Some tenths of a second. */
export const MAX_WORK = 3_000_000;

/** The longest text or bytes that an expression may make on its way. */
export const MAX_MADE_LENGTH = 1_048_576;

/** Thrown through the whole evaluation: CEL's own errors may be swallowed by `||`, this must not be. */
export class LimitReached extends Error {
  override readonly name = 'LimitReached';
}

/** Counts the work of one evaluation at a time. */
export class Meter {
  #left = 0;
  #reached: string | undefined;

  /** Why the evaluation since `begin` was given up, if it was. */
  get reached(): string | undefined {
    return this.#reached;
  }

  begin(work: number): void {
    this.#left = work;
    this.#reached = undefined;
  }

  charge(work: number): void {
    this.#left -= work;
    if (this.#left < 0) this.stop('it takes too many steps: it goes through too much, or too often');
  }

  /** Checks the length of a text that is about to be made. */
  make(length: number): void {
    this.charge(length >> 4);
    if (length > MAX_MADE_LENGTH) this.stop(`it makes a text of ${length} characters, ${MAX_MADE_LENGTH} is the most`);
  }

  stop(reason: string): never {
    this.#reached ??= reason;
    throw new LimitReached(reason);
  }
}
