import { ID_EPOCH_MS, type IdMaker } from '@baton/domain';

// An id is 41 bits of milliseconds, 10 of a node, 12 of a counter. Masters lease node numbers below 960; the six bits of those from
// 960 to 1023 and the counter's twelve are the edge's: 14 for the number that was drawn, 4 for ids of one millisecond.
const FIRST_NODE = 960n;
const COUNTER_BITS = 12n;
const TIME_SHIFT = 22n;
const INDEX_BITS = 4n;
const PER_MS = 1n << INDEX_BITS;

/** What one request was given by Postgres; see `drawEdgeNumber`. */
export interface EdgeNumber {
  /** 0 to 16 383. */
  number: number;
  /** Postgres's wall clock, ms. */
  nowMs: number;
}

/** Ids of one request. */
export interface EdgeIds extends IdMaker {
  /** Must be awaited before the first `next`. Draws once, however often it is called; again when that failed. */
  draw(): Promise<void>;
}

/** An id was wanted before there was a number for it. */
export class NoEdgeNumber extends Error {
  override readonly name = 'NoEdgeNumber';
}

/** Makes ids where no node number can be leased: a request lives too short for that. Sixteen to a millisecond, from the time drawn on. */
export function createEdgeIds(draw: () => Promise<EdgeNumber>): EdgeIds {
  let drawing: Promise<void> | null = null;
  let base: bigint | null = null;
  let made = 0n;
  return {
    draw() {
      drawing ??= draw().then(
        ({ number, nowMs }) => {
          base = (BigInt(nowMs - ID_EPOCH_MS) << TIME_SHIFT) | (FIRST_NODE << COUNTER_BITS);
          base += BigInt(number) << INDEX_BITS;
        },
        (error) => {
          drawing = null;
          throw error;
        },
      );
      return drawing;
    },
    next() {
      if (base === null) throw new NoEdgeNumber('an id was wanted before a number was drawn');
      const id = base + ((made / PER_MS) << TIME_SHIFT) + (made % PER_MS);
      made++;
      return id.toString();
    },
  };
}
