import { POISON_CRASHES } from '@baton/domain';
import type { model } from '@baton/store/testing';
import { type DatabaseDump, DEFAULT_HISTORY_SETTINGS, type History } from '@baton/testkit/history';
import { RETRY, SETTINGS } from './settings.ts';
import { textOf, type World } from './world.ts';

/** All that was written down, as the checker of histories wants it. Outputs stand for their own hashes. */
export function historyOf(
  world: World,
  { livenessMs, isSettled }: { livenessMs: number; isSettled: boolean },
): History {
  const { recorder, postgres } = world;
  const { db } = postgres;
  const lastFaultAtMs = Math.max(...recorder.faults.map((fault) => fault.untilMs ?? fault.atMs));
  return {
    settings: {
      ...DEFAULT_HISTORY_SETTINGS,
      leaseTtlMs: SETTINGS.leaseTtlMs,
      retry: RETRY,
      poisonCrashes: POISON_CRASHES,
      idempotencyTtlMs: SETTINGS.idempotencyTtlMs,
      breaker: null,
      livenessMs,
      // Code that was told to end has a moment for it.
      clockToleranceMs: 120,
      raceMs: 0,
      lastFaultAtMs,
      settledAtMs: isSettled ? db.now() : null,
      outages: recorder.outages,
    },
    database: dump(world, db),
    operations: recorder.operations,
    calls: recorder.calls,
    effects: recorder.effects,
    watchers: null,
    faults: recorder.faults,
  };
}

function dump(world: World, db: model.ModelDatabase): DatabaseDump {
  const tasks = [...db.tasks.values()];
  const inState = (state: string) => tasks.filter((task) => task.state === state);
  const place = ({ id, epoch, attempt }: model.ModelTask) => ({ taskId: id, epoch, attempt });
  const waiting = (reason: 'scheduled' | 'backoff') =>
    inState(reason).map((task) => ({ ...place(task), reason, dueAtMs: task.dueAtMs }));
  return {
    takenAtMs: db.now(),
    tasks: tasks.map((task) => {
      const { mark, delayMs, key } = world.acts.get(task.id)!;
      return {
        id: task.id,
        namespace: 'default',
        kind: `lane ${task.laneId}`,
        laneId: task.laneId,
        createdAtMs: task.createdAtMs,
        dueAtMs: delayMs === null ? null : task.createdAtMs + delayMs,
        runId: null,
        nodeId: null,
        retryOf: null,
        maxAttempts: task.maxAttempts,
        retry: task.retry,
        key,
        mark,
      };
    }),
    attempts: tasks.flatMap((task) => task.attempts.map((attempt) => ({ taskId: task.id, ...attempt }))),
    outcomes: tasks.flatMap((task) =>
      task.outcomes.map(({ state, endedAtMs, epoch, attempt, output }) => ({
        taskId: task.id,
        state,
        endedAtMs,
        epoch,
        attempt,
        outputSha256: output && textOf(output),
      })),
    ),
    ready: inState('ready').map(place),
    waiting: [...waiting('scheduled'), ...waiting('backoff')],
    leases: inState('leased').map((task) => {
      const { sessionId, grantedAtMs, startedAtMs } = task.lease!;
      return { ...place(task), sessionId, grantedAtMs, startedAtMs };
    }),
    lanes: world.lanes.map(({ id, kind, tags }) => ({
      id,
      namespace: 'default',
      queue: 'default',
      kind,
      executor: 'function',
      taskClass: 'cpu_short',
      tags,
    })),
    sessions: [...db.sessions.values()].map((session) => ({
      id: session.id,
      workerId: session.workerId,
      state: session.state,
      registeredAtMs: session.registeredAtMs,
      renewedAtMs: session.renewedAtMs,
      expiresAtMs: session.expiresAtMs,
    })),
    workers: [...db.workers.values()].map(({ id, name, sessionId }) => ({
      id,
      namespace: 'default',
      name,
      sessionId,
      capabilities: {},
    })),
    events: db.events.map(({ type, taskId, attempt, atMs }) => ({
      type,
      taskId: taskId === '0' ? '' : taskId,
      runId: '',
      attempt,
      atMs,
    })),
    eventsSinceMs: null,
    runs: [],
    runNodes: [],
    workflows: [],
    checkpoints: [],
    checkpointCounters: null,
    breakerChanges: null,
    idempotency: [...db.idempotency].map(([name, { id }]) => {
      const [, scope, key] = name.split('\n');
      return { namespace: 'default', scope: scope!, key: key!, id };
    }),
    activity: null,
    advances: 0,
  };
}
