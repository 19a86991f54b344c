import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultKind } from './fault.ts';

/** Sessions of masters at random, in the middle of what they do. */
export const terminateBackends: FaultKind = {
  name: 'terminate_backend',
  cards: 3,
  async fire({ cluster }, random) {
    const pauses = Array.from({ length: random.whole(2, 10) }, () => random.whole(0, 150));
    let ended = 0;
    for (const pauseMs of pauses) {
      const rows = await cluster.sql`
        select pg_terminate_backend(pid) from (
          select pid from pg_stat_activity where application_name like 'baton %'
          order by (state = 'active') desc, random() limit 1) p`;
      ended += rows.length;
      await sleep(pauseMs);
    }
    return ended > 0 ? `${ended} of them` : undefined;
  },
};
