import { randomUUID } from 'node:crypto';
import { Refusal } from '@baton/domain';
import { leaseNode, releaseNode, renewNode, type Sql } from '@baton/store';

const TTL_MS = 60_000;
const RENEW_MS = 10_000;
/** No id is made so long before the number may be another's. */
const MARGIN_MS = 5_000;

/** The leased number that makes this master's ids its own. */
export interface NodeNumber {
  readonly node: number;
  readonly instance: string;
  /** No id at or below this one may be made. */
  readonly idFloor: bigint;
  /**
   * Asked before each id. A master that was stopped for a while (SIGSTOP, a suspended machine) and goes on must not make ids of a
   * number that is another's by now, not even before its next renewal tells it so.
   *
   * @throws Refusal NODE_NUMBER_LOST
   */
  assertHeld(): void;
  /** Called when the number can no longer be counted on: this master must not make another id. */
  onLost(stop: (why: string) => void): void;
  release(lastId: string): Promise<void>;
}

/** All node numbers are taken. */
export class NoNodeNumber extends Error {
  override readonly name = 'NoNodeNumber';
}

/**
 * Leases a node number and keeps it. Each renewal leaves the last id as the floor for whoever takes the number over. After a crash
 * that is a minute later at the earliest, by Postgres's clock: only a successor whose own clock is that far behind could come below
 * ids that were made after the last renewal.
 */
export async function takeNodeNumber(sql: Sql, address: string, floorNow: () => string): Promise<NodeNumber> {
  const instance = randomUUID();
  const takenAt = performance.now();
  const lease = await leaseNode(sql, { instance, address, ttlMs: TTL_MS, idFloor: '0' });
  if (!lease)
    throw new NoNodeNumber(
      '960 masters hold a node number in this database: stop some, or wait a minute for the dead ones',
    );
  let lost: (why: string) => void = () => {};
  let renewedAt = takenAt;
  const timer = setInterval(() => {
    const at = performance.now();
    void renewNode(sql, { node: lease.node, instance, ttlMs: TTL_MS, idFloor: floorNow() })
      .then(({ held }) => {
        // Time counts from the sending: Postgres's own begins later.
        if (held) renewedAt = at;
        else lost('another master took the node number over');
      })
      .catch(() => {
        if (performance.now() - renewedAt > TTL_MS - RENEW_MS) lost('the node number could not be renewed in time');
      });
  }, RENEW_MS);
  timer.unref();
  return {
    node: lease.node,
    instance,
    idFloor: BigInt(lease.idFloor),
    assertHeld() {
      if (performance.now() - renewedAt > TTL_MS - MARGIN_MS)
        throw new Refusal(
          'unavailable',
          'NODE_NUMBER_LOST',
          'this master was away for too long: ask another, or again',
          {
            retryAfterMs: 1_000,
          },
        );
    },
    onLost(stop) {
      lost = stop;
    },
    async release(lastId) {
      clearInterval(timer);
      await releaseNode(sql, { node: lease.node, instance, idFloor: lastId });
    },
  };
}
