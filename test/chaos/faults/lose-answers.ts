import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultProxy } from '@baton/testkit';
import type { Cluster } from '../cluster.ts';
import type { Random } from '../random.ts';
import type { FaultKind } from './fault.ts';

const PATIENCE_MS = 4_000;

/** The next calls are carried out, and whoever made them never learns it: their connections are cut with the answers. */
function lose(
  name: string,
  draw: (cluster: Cluster, random: Random) => readonly [link: FaultProxy, target: string],
  least: readonly number[],
): FaultKind {
  return {
    name,
    cards: 3,
    async fire({ cluster }, random) {
      const [link, target] = draw(cluster, random);
      const sizes = Array.from({ length: random.whole(1, 4) }, () => random.pick(least));
      let lost = 0;
      const sprung = Promise.all(sizes.map((requestBytes) => link.loseAnswer({ requestBytes }).then(() => lost++)));
      await Promise.race([sprung, sleep(PATIENCE_MS)]);
      link.disarm();
      return lost > 0 ? `${lost} of ${target}` : undefined;
    },
  };
}

/** Statements that Postgres has committed. Any, or those that carry more: submits, claims, ends. */
export const cutAfterCommit = lose(
  'cut_after_commit',
  ({ masters }, random) => {
    const { link, program } = random.pick(masters);
    return [link, program.name];
  },
  [0, 600, 2_000],
);

/** Exchanges and heartbeats of workers. */
export const dropWorkerAnswer = lose(
  'drop_answer_to_worker',
  ({ workers }, random) => {
    const { links, program } = random.pick(workers);
    // One that it uses, if it has a choice.
    const used = links.filter(({ link }) => link.open > 0);
    return [random.pick(used.length > 0 ? used : links).link, program.name];
  },
  [0, 120],
);

/** Submits, cancels, reads of clients. */
export const dropClientAnswer = lose(
  'drop_answer_to_client',
  ({ clientLinks }, random) => {
    const i = random.whole(0, clientLinks.length - 1);
    return [clientLinks[i]!, `client ${i + 1}`];
  },
  [0],
);
