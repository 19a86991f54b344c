import { createIdMaker } from '@baton/domain';
import { claimTasks, type Grant } from '../tasks/claim.ts';
import { completeTasks } from '../tasks/complete.ts';
import { internLane, type Lane } from '../tasks/lanes.ts';
import type { NewTask } from '../tasks/new-task.ts';
import { submitTasks } from '../tasks/submit.ts';
import { registerWorker } from '../workers/sessions.ts';
import type { Sql } from './connection.ts';

/** Lanes, sessions and tasks of a test, with ids that no other scene of the process makes. */
export interface Scene {
  nextId(): string;
  lane(name: string): Promise<Lane>;
  /** A session of a worker of this name. */
  session(worker: string, options?: { leaseTtlMs?: number }): Promise<string>;
  task(lane: Lane, change?: Partial<NewTask>): NewTask;
  /** Stores this many tasks; their ids in order. */
  submit(lane: Lane, count: number, change?: Partial<NewTask>): Promise<string[]>;
  claim(lane: Lane, sessionId: string, count: number): Promise<Grant[]>;
  /** Ends leases with success; the tasks that were held. */
  complete(words: readonly Pick<Grant, 'taskId' | 'epoch' | 'sessionId'>[], on?: Sql): Promise<string[]>;
  /** Which table each task is in. */
  places(taskIds: readonly string[]): Promise<string[]>;
}

const ids = createIdMaker(7, Date.now);

export function scene(sql: Sql): Scene {
  const nextId = () => ids.next();
  const task = (lane: Lane, change: Partial<NewTask> = {}): NewTask => ({
    id: nextId(),
    namespaceId: lane.namespaceId,
    routeId: lane.routeId,
    laneId: lane.id,
    priority: 0,
    maxAttempts: 4,
    startToCloseMs: 3_600_000,
    encoding: 1,
    input: Uint8Array.of(0x31),
    dueAtMs: null,
    idempotency: null,
    extra: null,
    ...change,
  });
  return {
    nextId,
    task,
    lane: (name) =>
      internLane(sql, {
        namespaceId: 1,
        queue: name,
        kind: name,
        executor: 'function',
        taskClass: 'cpu_short',
        tags: [],
      }),
    async session(worker, { leaseTtlMs = 600_000 } = {}) {
      const sessionId = nextId();
      await registerWorker(sql, {
        sessionId,
        namespaceId: 1,
        name: worker,
        instanceId: sessionId,
        capabilities: {},
        serviceUrl: '',
        version: '0',
        metadata: {},
        leaseTtlMs,
      });
      return sessionId;
    },
    async submit(lane, count, change) {
      const batch = Array.from({ length: count }, () => task(lane, change));
      await submitTasks(sql, batch);
      return batch.map((t) => t.id);
    },
    claim: (lane, sessionId, count) => claimTasks(sql, [lane.id], [{ sessionId, count }]),
    async complete(words, on = sql) {
      const batch = words.map(({ taskId, epoch, sessionId }) => ({ taskId, epoch, sessionId }));
      const ended = await completeTasks(
        on,
        batch.map((word) => ({ ...word, output: Uint8Array.of(0x31), encoding: 1, ranUs: 1000 })),
      );
      return ended.map((e) => e.taskId);
    },
    async places(taskIds) {
      const rows = await sql.unsafe(
        `select t.place from unnest($1::bigint[]) with ordinality i(id, n) left join lateral (
           select 'ready' as place from baton.ready where task_id = i.id union all select 'waiting' from baton.waiting where task_id = i.id
           union all select 'leases' from baton.leases where task_id = i.id union all select 'outcomes' from baton.outcomes where task_id = i.id) t on true
         order by n`,
        [`{${taskIds.join(',')}}`],
      );
      return rows.map((r) => r.place as string);
    },
  };
}
