import { drawLink, type FaultKind } from './fault.ts';

/** Everything that is connected by a wire is cut off. */
export const resetLinks: FaultKind = {
  name: 'reset_connections',
  cards: 2,
  async fire({ cluster }, random) {
    const hit = Array.from({ length: random.whole(1, 3) }, () => drawLink(cluster, random));
    const cut = hit.map(([link, name]) => `${link.reset()} of ${name}`);
    return cut.join(', ');
  },
};
