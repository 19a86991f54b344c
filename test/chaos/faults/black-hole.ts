import { setTimeout as sleep } from 'node:timers/promises';
import { drawLink, type FaultKind } from './fault.ts';

/** What is connected now is half-open for ever; sometimes what connects meanwhile, too. */
export const blackHole: FaultKind = {
  name: 'black_hole',
  cards: 2,
  async fire({ cluster }, random) {
    const [link, name] = drawLink(cluster, random);
    const [newToo, ms] = [random.chance(0.5), random.whole(500, 5_000)];
    link.blackHole({ newToo });
    if (newToo) {
      await sleep(ms);
      link.heal();
    }
    return newToo ? `${name}, new ones too for ${ms} ms` : name;
  },
};
