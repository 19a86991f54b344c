import { setTimeout as sleep } from 'node:timers/promises';
import { drawLink, type FaultKind } from './fault.ts';

/** Every way takes longer on some wires. */
export const slow: FaultKind = {
  name: 'slow_network',
  cards: 2,
  async fire({ cluster }, random) {
    const hit = Array.from({ length: random.whole(1, 4) }, () => drawLink(cluster, random));
    const [delayMs, ms] = [random.whole(10, 400), random.whole(1_000, 8_000)];
    for (const [link] of hit) link.slow(delayMs);
    await sleep(ms);
    for (const [link] of hit) link.slow(0);
    return `${hit.map(([, name]) => name).join(', ')} by ${delayMs} ms for ${ms} ms`;
  },
};
