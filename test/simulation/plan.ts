import { FAILURE_TYPES } from '@baton/domain';
import type { Random } from '@baton/store/testing';
import type { Errand } from './client.ts';
import type { Act, Request } from './protocol.ts';
import type { SimLane } from './world.ts';

export const LANES: readonly SimLane[] = [
  { id: 1, kind: 'a', tags: [], biggerLaneId: 4 },
  { id: 2, kind: 'b', tags: [], biggerLaneId: null },
  { id: 3, kind: 'c', tags: [], biggerLaneId: 4 },
  { id: 4, kind: 'a', tags: ['memory>1'], biggerLaneId: null },
];

/** Which lanes each worker can do; every lane has more than one. */
export const ABILITIES: readonly number[][] = [
  [1, 2, 3, 4],
  [1, 2],
  [2, 3],
  [1, 3, 4],
  [1, 2, 3],
];

const ATTEMPTS_DRAWN = 12;

function drawAct(random: Random): Act {
  const luck = random.next();
  const does = luck < 0.8 ? 'succeed' : luck < 0.97 ? 'fail' : luck < 0.99 ? 'hang' : 'kill';
  return {
    does,
    takesMs: random.chance(0.18) ? 1_500 + random.next() * 5_500 : 20 + random.next() * 900,
    failure: random.chance(0.5) ? 'EVALUATION_ERROR' : random.pick(FAILURE_TYPES.filter((t) => t !== 'WORKER_CRASH')),
    nonRetryable: random.chance(0.08),
    retryAfterMs: random.chance(0.1) ? Math.floor(random.next() * 1_500) : null,
  };
}

function drawRequest(random: Random, mark: string): Request {
  const poison = random.chance(0.004);
  const acts = Array.from({ length: random.chance(0.5) ? 1 : ATTEMPTS_DRAWN }, () => drawAct(random));
  const last = acts.at(-1)!;
  // Soon, so that the last of its workers is lost in time.
  if (poison) for (const act of acts) Object.assign(act, { does: 'kill', takesMs: 50 });
  // The last one drawn goes on for ever.
  else if (last.does === 'kill' || last.does === 'hang') last.does = 'succeed';
  return {
    mark,
    laneId: 1 + random.below(3),
    priority: random.below(3) - 1,
    maxAttempts: random.chance(0.8) ? 4 : 1 + random.below(3),
    startToCloseMs: 5_000 + random.below(4_000),
    delayMs: random.chance(0.15) ? random.below(6_000) : null,
    key: random.chance(0.5) ? `key ${mark}` : null,
    body: 1,
    acts,
  };
}

/** At least `tasks` requests over this time; some are asked for by two clients at once, a few of these with another body. */
export function planErrands(random: Random, tasks: number, untilMs: number): Errand[] {
  const errands: Errand[] = [];
  for (let n = 0; n < tasks; n++) {
    const request = drawRequest(random, `m${n}`);
    // In bursts, so that batches are made.
    const atMs =
      Math.floor(random.next() * 12) * (untilMs / 12) + random.next() * (random.chance(0.5) ? 5 : untilMs / 12);
    const errand: Errand = {
      request,
      atMs,
      cancelAfterMs: random.chance(0.15) ? random.next() * (random.chance(0.5) ? 300 : 6_000) : null,
      readAfterMs: random.chance(0.3) ? random.next() * 8_000 : null,
    };
    errands.push(errand);
    if (request.key === null || !random.chance(0.15)) continue;
    const body = random.chance(0.2) ? 2 : request.body;
    const again: Request = { ...request, mark: `${request.mark}'`, body };
    errands.push({ ...errand, request: again, atMs: atMs + random.next() * (random.chance(0.7) ? 4 : 4_000) });
  }
  return errands;
}
