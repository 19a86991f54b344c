/** Milliseconds since the Unix epoch at which ids begin: 2025-01-01 UTC. The SQL function baton.id_at says the same. */
export const ID_EPOCH_MS = 1_735_689_600_000;
const COUNTER_BITS = 12n;
const NODE_BITS = 10n;
const COUNTER_LIMIT = 1 << 12;

export interface IdMaker {
  /** A new id: a decimal string below 2^63, larger than every one that this maker made before. */
  next(): string;
}

/**
 * Ids are made by the master before the insert, so that a repeated batch is harmless. 41 bits of milliseconds, 10 of a leased
 * node number, 12 of a counter: ordered by time, unique while the node number is held.
 *
 * @param node 0 to 1023, leased
 * @param nowMs wall clock; may stand still or go back, ids rise all the same
 * @param floor no id is at or below it (a former holder of the node number may have had a faster clock)
 */
export function createIdMaker(node: number, nowMs: () => number, floor = 0n): IdMaker {
  if (!Number.isInteger(node) || node < 0 || node > 1023) throw new RangeError(`node ${node} is not in 0..1023`);
  let lastMs = Number(floor >> (COUNTER_BITS + NODE_BITS)) + (floor > 0n ? 1 : 0) - 1;
  let counter = COUNTER_LIMIT;
  let base = 0n;
  return {
    next() {
      const ms = nowMs() - ID_EPOCH_MS;
      if (ms > lastMs) {
        lastMs = ms;
        counter = 0;
        base = (BigInt(lastMs) << (COUNTER_BITS + NODE_BITS)) | (BigInt(node) << COUNTER_BITS);
      } else if (counter === COUNTER_LIMIT) {
        lastMs++;
        counter = 0;
        base = (BigInt(lastMs) << (COUNTER_BITS + NODE_BITS)) | (BigInt(node) << COUNTER_BITS);
      }
      return (base | BigInt(counter++)).toString();
    },
  };
}

const MAX_ID = String(2n ** 63n - 1n);

/** Whether a text can be an id at all; what cannot be one names nothing. */
export function isId(text: string): boolean {
  return /^[1-9]\d{0,18}$/.test(text) && compareIds(text, MAX_ID) <= 0;
}

/** The time part of an id, ms since the Unix epoch. */
export function idTimeMs(id: string): number {
  return Number(BigInt(id) >> (COUNTER_BITS + NODE_BITS)) + ID_EPOCH_MS;
}

/** Orders ids by time of creation. They are of different length only across years. */
export function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
