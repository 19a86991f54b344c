import { setTimeout as sleep } from 'node:timers/promises';
import { drawLink, type FaultKind } from './fault.ts';

/** Nothing moves on a wire, and then everything does. */
export const stall: FaultKind = {
  name: 'stalled_network',
  cards: 2,
  async fire({ cluster }, random) {
    const [link, name] = drawLink(cluster, random);
    const ms = random.whole(200, 5_000);
    link.pause();
    await sleep(ms);
    link.heal();
    return `${name} for ${ms} ms`;
  },
};
