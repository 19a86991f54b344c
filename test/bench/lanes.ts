import { type TaskSpec, TaskSpecSchema } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { INPUT } from './calls.ts';
import { type DrainRun, measureDrain } from './drain.ts';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './server.ts';

/** How the tasks differ. They are the same no-op tasks, and one worker takes all. */
export const LANE_WAYS = ['plain', '10 queues', '100 queues', '1000 queues', 'priorities', 'all'] as const;
export type LaneWay = (typeof LANE_WAYS)[number];

export interface LaneRun extends Omit<DrainRun, 'who'> {
  way: LaneWay;
}

const QUEUES: Partial<Record<LaneWay, number>> = {
  '10 queues': 10,
  '100 queues': 100,
  '1000 queues': 1_000,
  all: 1_000,
};
const PRIORITIES = 100;

/** The `n`-th task: queues one after the other, priorities all over the place but the same in every run. */
export function specOf(way: LaneWay, n: number): TaskSpec {
  const queues = QUEUES[way];
  return create(TaskSpecSchema, {
    kind: 'noop',
    payload: { case: 'inputJson', value: INPUT },
    ...(queues !== undefined && { queue: `queue-${n % queues}` }),
    ...((way === 'priorities' || way === 'all') && { priority: (n * 7_919) % PRIORITIES }),
    ...(way === 'all' && { retry: { maxAttempts: 5 }, labels: { batch: String(n % 10) } }),
  });
}

export async function measureLanes(
  server: BenchServer,
  options: BenchOptions,
  slots: number,
  way: LaneWay,
): Promise<LaneRun> {
  const { who: _, ...run } = await measureDrain(server, options, { workers: 1, slots }, (n) => specOf(way, n));
  return { ...run, way };
}
