import { randomUUID } from 'node:crypto';
import { leaseNode, releaseNode, renewNode, type Sql } from '@baton/store';

const TTL_MS = 60_000;
const RENEW_MS = 10_000;

/** The leased number that makes this master's ids its own. */
export interface NodeNumber {
  readonly node: number;
  readonly instance: string;
  /** No id at or below this one may be made. */
  readonly idFloor: bigint;
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
  const lease = await leaseNode(sql, { instance, address, ttlMs: TTL_MS, idFloor: '0' });
  if (!lease)
    throw new NoNodeNumber(
      '960 masters hold a node number in this database: stop some, or wait a minute for the dead ones',
    );
  let lost: (why: string) => void = () => {};
  let renewedAt = performance.now();
  const timer = setInterval(() => {
    void renewNode(sql, { node: lease.node, instance, ttlMs: TTL_MS, idFloor: floorNow() })
      .then(({ held }) => {
        if (held) renewedAt = performance.now();
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
    onLost(stop) {
      lost = stop;
    },
    async release(lastId) {
      clearInterval(timer);
      await releaseNode(sql, { node: lease.node, instance, idFloor: lastId });
    },
  };
}
