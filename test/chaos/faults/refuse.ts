import { setTimeout as sleep } from 'node:timers/promises';
import { drawLink, type FaultKind } from './fault.ts';

/** Whoever is connected is cut off, and nobody is let in for a while. */
export const refuse: FaultKind = {
  name: 'refused_connections',
  cards: 1,
  async fire({ cluster }, random) {
    const [link, name] = drawLink(cluster, random);
    const ms = random.whole(500, 4_000);
    link.refuse();
    link.reset();
    await sleep(ms);
    link.heal();
    return `${name} for ${ms} ms`;
  },
};
