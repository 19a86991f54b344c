import type { PeerDrain } from './drain.ts';
import type { PeerLatency } from './latency.ts';
import type { PeerSubmit } from './submit.ts';

interface Runs {
  drain: PeerDrain;
  backlog: PeerDrain;
  submit: PeerSubmit;
  latency: PeerLatency;
}

/** What was measured of a peer; `who` as `--peers` names it. */
export type PeerRun<Bench extends keyof Runs = keyof Runs> = Runs[Bench] & { who: string };
