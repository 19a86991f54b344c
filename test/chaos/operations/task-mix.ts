import type { TaskSubmission } from '@baton/client';
import type { Random } from '../random.ts';

/** How often each sort of task is drawn, of 1 000. */
const SORTS: readonly (readonly [share: number, draw: (random: Random) => TaskSubmission])[] = [
  [420, (r) => ({ kind: 'step', input: { ms: r.whole(3, 60), orphan: r.pick(['stays', 'goes']) } })],
  [330, () => ({ kind: 'plain', input: {} })],
  [50, later],
  [70, fails],
  [40, (r) => ({ kind: 'chat', input: { lines: r.whole(1, 30), ms: r.whole(3, 30) } })],
  [25, (r) => ({ kind: 'step', input: { ms: r.whole(1_000, 3_500), orphan: r.pick(['stays', 'goes']) } })],
  [12, hangs],
  [8, isSilent],
  [20, startsSoon],
  [25, saves],
  [50, (r) => ({ kind: 'raw', input: {}, retry: { maxAttempts: r.whole(2, 4), initialDelayMs: r.whole(50, 300) } })],
  [2, () => ({ kind: 'crash', input: { times: 1 } })],
  [1, (r) => ({ kind: 'crash', input: { times: r.pick([2, 99]) } })],
];

const TOTAL = SORTS.reduce((sum, [share]) => sum + share, 0);

/** A task of any sort, with or without a key, of some priority. */
export function drawTask(random: Random, key: () => string): TaskSubmission {
  let left = random.whole(1, TOTAL);
  const [, draw] = SORTS.find(([share]) => {
    left -= share;
    return left <= 0;
  })!;
  return {
    ...draw(random),
    priority: random.pick([0, 0, 0, 5, -5]),
    ...(random.chance(0.7) && { idempotencyKey: key() }),
  };
}

/** A point in time and not a delay: a repeated submit must say the same. */
function later(random: Random): TaskSubmission {
  const runAt = new Date(Date.now() + random.whole(100, 4_000));
  return { kind: 'step', input: { ms: random.whole(3, 40) }, runAt };
}

function fails(random: Random): TaskSubmission {
  return {
    kind: 'fails',
    input: { times: random.whole(1, 4), how: random.pick(['error', 'error', 'error', 'later', 'final']) },
    retry: {
      maxAttempts: random.whole(1, 4),
      initialDelayMs: random.whole(50, 400),
      factor: random.pick([1, 2]),
      jitter: random.pick([0, 0, 0.5]),
    },
  };
}

/** Longer than its time. */
function hangs(random: Random): TaskSubmission {
  return {
    kind: 'step',
    input: { ms: 20_000, orphan: 'goes' },
    startToCloseTimeoutMs: random.whole(300, 1_200),
    retry: { maxAttempts: random.whole(1, 2), initialDelayMs: 100 },
  };
}

/** No sign of life for longer than it may be. */
function isSilent(random: Random): TaskSubmission {
  return {
    kind: 'step',
    input: { ms: 20_000, orphan: 'goes' },
    progressTimeoutMs: random.whole(300, 1_200),
    retry: { maxAttempts: random.whole(1, 2), initialDelayMs: 100 },
  };
}

/** Fails if nobody takes it for so long. */
function startsSoon(random: Random): TaskSubmission {
  return { kind: 'plain', input: {}, scheduleToStartTimeoutMs: random.whole(300, 4_000) };
}

function saves(random: Random): TaskSubmission {
  const steps = random.whole(2, 8);
  return {
    kind: 'saves',
    input: { steps, ms: random.whole(5, 120), failsAt: random.whole(0, steps), dies: random.chance(0.02) },
    retry: { maxAttempts: 3, initialDelayMs: random.whole(50, 300) },
  };
}
