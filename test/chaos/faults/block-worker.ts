import { setTimeout as sleep } from 'node:timers/promises';
import { submit } from '../client.ts';
import { LEASE_TTL_MS } from '../cluster.ts';
import type { FaultKind } from './fault.ts';

/** A task keeps the worker's event loop busy for longer than the lease. */
export const blockWorker: FaultKind = {
  name: 'block_event_loop',
  cards: 2,
  async fire({ line, cluster }, random) {
    const { program } = random.pick(cluster.workers);
    const ms = Math.round(LEASE_TTL_MS * (1.1 + random.next() / 2));
    const idempotencyKey = `block-${line.nextOp()}`;
    await submit(line, {
      kind: 'block',
      input: { ms },
      tags: [`worker:${program.name}`],
      priority: 100,
      idempotencyKey,
    });
    await sleep(ms);
    return `${program.name} for ${ms} ms`;
  },
};
