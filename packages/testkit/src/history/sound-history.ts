import { EVENT, type Failure } from '@baton/domain';
import { tellStory, type WholeHistory } from './story.ts';

/** Names of what is in the sound history, for those who break it. */
export const CAST = {
  /** Succeeded at once. */
  plain: 'mark plain',
  /** Failed, waited 5 s, succeeded. */
  retried: 'mark retried',
  /** Lost with its worker, which came back and was refused; has checkpoints 1 and 2 of epoch 1, 3 of epoch 2. */
  lost: 'mark lost',
  /** Cancelled while it was ready. */
  cancelled: 'mark cancelled',
  /** Its worker was asked to stop it, and did. */
  stopped: 'mark stopped',
  /** Submitted twice with one key. */
  keyed: 'mark keyed',
  /** Not acknowledged, and there. */
  landed: 'mark landed',
  scheduled: 'mark scheduled',
  /** Its first lease was handed back at no cost. */
  returned: 'mark returned',
  /** Failed for good, and was sent again. */
  dead: 'mark dead',
} as const;

const failure = (type: Failure['type'], more: Partial<Failure> = {}): Failure => ({
  type,
  message: 'it failed',
  ...more,
});

/**
 * A history in which everything happens that the invariants are about, and nothing is wrong. Two workers take turns, one is
 * stopped for longer than its lease; a third one's breaker opens and closes again.
 */
export function soundHistory(): WholeHistory {
  const story = tellStory();
  const { history, submit, grant, end, succeed, promote, cancel, save, renew, pass } = story;
  const { database, operations, calls, faults } = history;
  const answer = (by = 'client') => ({ by, invokedAtMs: story.now(), answeredAtMs: story.now() + 1 });
  const first = story.worker('first', 2);
  const stopped = story.session(first);
  const second = story.session(story.worker('second', 2));
  const shaky = story.worker('shaky', 2);
  const third = story.session(shaky);

  const plain = submit({ mark: CAST.plain });
  succeed(plain, second);
  operations.push({
    ...answer(),
    outcome: 'ok',
    type: 'see_end',
    taskId: plain,
    state: 'succeeded',
    outputSha256: `out ${plain} 1`,
  });

  const lost = submit({ mark: CAST.lost });
  grant(lost, stopped, null);
  save(lost);
  save(lost);
  faults.push({ kind: 'stop_worker', atMs: story.now(), untilMs: story.now() + 15_000 });
  renew(second);
  pass(6_000);
  renew(second);
  pass(6_000);
  end(lost, { state: 'lost', next: 'ready', failure: failure('WORKER_CRASH') });
  database.sessions.find((s) => s.id === stopped)!.state = 'closed';
  grant(lost, second, 2);
  save(lost);
  // The stopped worker comes back: its process was there all the time, and nothing of it is taken.
  const stale = {
    ...answer('worker'),
    sessionId: stopped,
    taskId: lost,
    epoch: 1,
    outcome: 'fail',
    code: 'failed_precondition',
    reason: 'LEASE_LOST',
  } as const;
  calls.push({ ...stale, type: 'complete', reported: 'succeeded' });
  calls.push({ ...stale, type: 'checkpoint', saveId: 'too late' });
  history.effects.find((e) => e.taskId === lost && e.epoch === 1)!.endedAtMs = story.now() + 1;
  end(lost, { state: 'succeeded', next: 'succeeded' });
  renew(second);
  const again = story.session(first);

  const retried = submit({ mark: CAST.retried });
  grant(retried, again);
  end(retried, { state: 'failed', next: 'backoff', failure: failure('EVALUATION_ERROR'), delayMs: 5_000 });
  promote(retried);
  renew(again);
  renew(second);
  succeed(retried, second);

  cancel(submit({ mark: CAST.cancelled }));
  const asked = submit({ mark: CAST.stopped });
  grant(asked, again);
  cancel(asked);
  end(asked, { state: 'cancelled', next: 'cancelled' });

  const keyed = submit({ mark: CAST.keyed, key: 'once' });
  const keyedOnce = { namespace: 'default', kind: 'sum', key: 'once' };
  operations.push({
    ...answer(),
    outcome: 'ok',
    type: 'submit',
    ...keyedOnce,
    body: 'sum 1',
    mark: CAST.keyed,
    taskId: keyed,
  });
  operations.push({
    ...answer(),
    outcome: 'fail',
    code: 'failed_precondition',
    reason: 'IDEMPOTENCY_CONFLICT',
    type: 'submit',
    ...keyedOnce,
    body: 'sum 2',
    mark: 'mark conflict',
  });
  database.idempotency.push({ namespace: 'default', scope: 'task:sum', key: 'once', id: keyed });
  succeed(keyed, again);

  const unkeyed = { type: 'submit', namespace: 'default', kind: 'sum', key: null } as const;
  const landed = submit({ mark: CAST.landed });
  Object.assign(operations.at(-1)!, { outcome: 'info', answeredAtMs: null, taskId: undefined });
  succeed(landed, again);
  operations.push({ ...answer(), outcome: 'info', ...unkeyed, mark: 'mark adrift' });
  operations.push({
    ...answer(),
    outcome: 'fail',
    code: 'invalid_argument',
    reason: 'INVALID_REQUEST',
    ...unkeyed,
    mark: 'mark refused',
  });
  operations.push({ ...answer(), outcome: 'fail', code: 'permission_denied', ...unkeyed, mark: 'mark denied' });

  const scheduled = submit({ mark: CAST.scheduled, dueAtMs: story.now() + 2_000 });
  promote(scheduled);
  succeed(scheduled, second);

  const returned = submit({ mark: CAST.returned });
  grant(returned, again);
  end(returned, { state: 'returned', next: 'ready' });
  succeed(returned, second);

  const dead = submit({ mark: CAST.dead });
  grant(dead, second);
  end(dead, { state: 'failed', next: 'failed', failure: failure('EVALUATION_ERROR', { nonRetryable: true }) });
  const resent = submit({ mark: null, retryOf: dead });
  operations.push({ ...answer(), outcome: 'ok', type: 'resend', taskId: dead, newTaskId: resent });
  succeed(resent, second);

  tellRun();
  tellBreaker();
  history.settings = {
    ...history.settings,
    expectedFaults: ['stop_worker'],
    lastFaultAtMs: faults[0]!.untilMs,
    livenessMs: 600_000,
    settledAtMs: story.now(),
    sameCapabilities: true,
    maxPrefetch: 0,
  };
  for (const session of database.sessions)
    if (session.id !== stopped)
      Object.assign(session, { renewedAtMs: story.now(), expiresAtMs: story.now() + history.settings.leaseTtlMs });
  watch();
  return history;

  function tellRun(): void {
    const runId = '500';
    database.workflows.push({
      key: '1/pair@1',
      nodes: [
        { id: 'a', needs: [] },
        { id: 'b', needs: ['a'] },
      ],
    });
    database.runs.push({
      id: runId,
      namespace: 'default',
      workflowKey: '1/pair@1',
      workflow: 'pair',
      state: 'succeeded',
      execution: 1,
      createdAtMs: story.now(),
      key: null,
      mark: 'mark run',
    });
    operations.push({
      ...answer(),
      outcome: 'ok',
      type: 'start_run',
      namespace: 'default',
      workflow: 'pair',
      key: null,
      mark: 'mark run',
      runId,
    });
    story.event(EVENT.runStarted, '', 0, runId);
    for (const nodeId of ['a', 'b']) {
      const taskId = submit({ runId, nodeId });
      succeed(taskId, second);
      database.runNodes.push({ runId, nodeId, state: 'succeeded', taskId });
    }
    pass(1);
    story.event(EVENT.runEnded, '', 0, runId);
  }

  function tellBreaker(): void {
    const { openMs } = history.settings.breaker!;
    const change = (from: 'closed' | 'open' | 'half_open', to: 'closed' | 'open' | 'half_open') => {
      pass(1);
      database.breakerChanges.push({ workerId: shaky, device: '', from, to, atMs: story.now(), reason: 'told' });
    };
    const failing = [submit(), submit(), submit()];
    for (const taskId of failing) {
      grant(taskId, third);
      end(taskId, { state: 'failed', next: 'backoff', failure: failure('NETWORK_ERROR'), delayMs: 5_000 });
    }
    change('closed', 'open');
    pass(6_000);
    for (const taskId of failing) {
      promote(taskId);
      succeed(taskId, second);
    }
    pass(openMs);
    change('open', 'half_open');
    succeed(submit(), third);
    succeed(submit(), third);
    change('half_open', 'closed');
  }

  /** One that saw all, over two connections; one that came later, and asked for ends only. */
  function watch(): void {
    const all = database.events;
    const ends: readonly number[] = [EVENT.taskSucceeded, EVENT.taskFailed, EVENT.taskCancelled];
    const half = all.length >> 1;
    const base = { taskIds: null, complete: true } as const;
    history.watchers.push({
      ...base,
      name: 'all',
      types: null,
      from: 'beginning',
      connections: [{ events: all.slice(0, half) }, { events: all.slice(half) }],
    });
    const late = all.slice(half).filter((e) => ends.includes(e.type));
    history.watchers.push({
      ...base,
      name: 'ends',
      types: [...ends],
      from: 'later',
      connections: [{ events: late.slice(0, 2) }, { events: [] }, { events: late.slice(2) }],
    });
  }
}
