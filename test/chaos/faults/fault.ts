import type { FaultProxy } from '@baton/testkit';
import type { Line } from '../client.ts';
import type { Cluster } from '../cluster.ts';
import type { Random } from '../random.ts';

/** What a fault is done to. */
export interface FaultScene {
  readonly cluster: Cluster;
  /** A client for faults that go through the front door; its way is not disturbed on purpose. */
  readonly line: Line;
}

/** Something that goes wrong, and is well again when `fire` has ended. One file for each; a new one is added to the list in index.ts. */
export interface FaultKind {
  readonly name: string;
  /** How often it is in the deck that is dealt; the first round deals each once. */
  readonly cards: number;
  /** It may find nothing to do, in every firing of a run; then it is not missed. */
  readonly optional?: boolean;
  /** Draws from `random` before it waits for anything. Says what it hit, or undefined when there was nothing to hit. */
  fire(scene: FaultScene, random: Random): Promise<string | undefined>;
}

/** Any wire: as often one of a worker as one of a master or a client. */
export function drawLink(cluster: Cluster, random: Random): Wire {
  const groups: Wire[][] = [
    cluster.workers.flatMap(({ links, program }) =>
      links.map(({ link, to }): Wire => [link, `${program.name} to ${to}`]),
    ),
    cluster.masters.map(({ link, program }): Wire => [link, `${program.name} to Postgres`]),
    cluster.clientLinks.map((link, i): Wire => [link, `client ${i + 1} to masters`]),
    cluster.rawLinks.map((link, i): Wire => [link, `raw workers to m${i + 1}`]),
  ];
  return random.pick(random.pick(groups));
}

type Wire = readonly [link: FaultProxy, name: string];
