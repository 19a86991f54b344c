import { EVENT } from '@baton/domain';
import type { LogEvent } from './database-dump.ts';
import type { Draft } from './draft.ts';
import { CAST } from './sound-history.ts';
import type { WholeHistory } from './story.ts';

/** One way to break the sound history. */
export interface Mutation {
  readonly name: string;
  /** The invariants that the checker has to name, and no other. */
  readonly breaks: readonly number[];
  mutate(history: WholeHistory): void;
}

// Looking things up. -----------------------------------------------------------------------------------------------------

const idOf = (h: WholeHistory, mark: string) => h.database.tasks.find((t) => t.mark === mark)!.id;
const taskOf = (h: WholeHistory, mark: string) => h.database.tasks.find((t) => t.mark === mark)!;
const attemptOf = (h: WholeHistory, mark: string, epoch = 1) =>
  h.database.attempts.find((a) => a.taskId === idOf(h, mark) && a.epoch === epoch)!;
const outcomeOf = (h: WholeHistory, mark: string) => h.database.outcomes.find((o) => o.taskId === idOf(h, mark))!;
const effectOf = (h: WholeHistory, mark: string, epoch = 1) =>
  h.effects.find((e) => e.taskId === idOf(h, mark) && e.epoch === epoch)!;
const completionOf = (h: WholeHistory, mark: string) =>
  h.calls.find((c) => c.type === 'complete' && c.outcome === 'ok' && c.taskId === idOf(h, mark))!;
const staleCall = (h: WholeHistory, type: 'complete' | 'checkpoint') =>
  h.calls.find((c) => c.type === type && c.outcome === 'fail')!;
const eventOf = (h: WholeHistory, mark: string, type: number, nth = 0) =>
  h.database.events.filter((e) => e.taskId === idOf(h, mark) && e.type === type)[nth]!;
const nodeTask = (h: WholeHistory, nodeId: string) => h.database.runNodes.find((n) => n.nodeId === nodeId)!.taskId!;
const sessionOf = (h: WholeHistory, mark: string) =>
  h.database.sessions.find((s) => s.id === attemptOf(h, mark).sessionId)!;
const probes = (h: WholeHistory) => {
  const since = h.database.breakerChanges[1]!.atMs;
  return h.database.attempts.filter(
    (a) => a.workerId === h.database.breakerChanges[0]!.workerId && a.grantedAtMs > since,
  );
};

// Changing the log and what watchers saw of it alike. ---------------------------------------------------------------------

type Log = Draft<LogEvent>[];
const logs = (h: WholeHistory): Log[] => [
  h.database.events,
  ...h.watchers.flatMap((w) => w.connections.map((c) => c.events as Log)),
];

function dropEvent(h: WholeHistory, event: LogEvent): void {
  for (const log of logs(h)) if (log.includes(event)) log.splice(log.indexOf(event), 1);
}

function addEvent(h: WholeHistory, after: LogEvent | undefined, event: Partial<LogEvent>): void {
  const whole = { ...(after ?? h.database.events.at(-1)!), ...event };
  if (after) {
    for (const log of logs(h)) if (log.includes(after)) log.splice(log.indexOf(after) + 1, 0, whole);
    return;
  }
  h.database.events.push(whole);
  for (const { types, connections } of h.watchers)
    if (types === null || types.includes(whole.type)) (connections.at(-1)!.events as Log).push(whole);
}

/** Everything of a task but what clients were told. */
function forget(h: WholeHistory, taskId: string): void {
  const { database } = h;
  for (const event of database.events.filter((e) => e.taskId === taskId)) dropEvent(h, event);
  database.tasks = database.tasks.filter((t) => t.id !== taskId);
  database.attempts = database.attempts.filter((a) => a.taskId !== taskId);
  database.outcomes = database.outcomes.filter((o) => o.taskId !== taskId);
  h.effects = h.effects.filter((e) => e.taskId !== taskId);
  h.calls = h.calls.filter((c) => c.type === 'renew' || c.taskId !== taskId);
}

/** A second task that went the same way, of which clients know nothing. */
function twin(h: WholeHistory, taskId: string, change: Partial<WholeHistory['database']['tasks'][number]>): void {
  const { database } = h;
  const to = `${taskId}0`;
  const as = <T extends { taskId: string }>(rows: T[]) =>
    rows.filter((r) => r.taskId === taskId).map((r) => ({ ...r, taskId: to }));
  database.tasks.push({ ...database.tasks.find((t) => t.id === taskId)!, id: to, ...change });
  database.attempts.push(...as(database.attempts));
  database.outcomes.push(...as(database.outcomes).map((o) => ({ ...o, outputSha256: null })));
  for (const event of database.events.filter((e) => e.taskId === taskId))
    addEvent(h, undefined, { ...event, taskId: to });
}

/** A task that is there and goes nowhere. */
function strand(h: WholeHistory, place: 'ready' | 'leased'): void {
  const { database } = h;
  const id = '9000';
  const mark = 'mark stranded';
  const atMs = database.takenAtMs - 1_000_000;
  database.tasks.push({ ...taskOf(h, CAST.plain), id, mark, createdAtMs: atMs });
  h.operations.push({
    by: 'client',
    invokedAtMs: atMs,
    answeredAtMs: atMs,
    outcome: 'ok',
    type: 'submit',
    namespace: 'default',
    kind: 'sum',
    key: null,
    mark,
    taskId: id,
  });
  addEvent(h, undefined, { type: EVENT.taskSubmitted, taskId: id, runId: '', attempt: 0 });
  if (place === 'ready') {
    database.ready.push({ taskId: id, epoch: 0, attempt: 0 });
    return;
  }
  const stopped = sessionOf(h, CAST.lost);
  database.leases.push({
    taskId: id,
    epoch: 1,
    attempt: 1,
    sessionId: stopped.id,
    grantedAtMs: stopped.registeredAtMs + 1,
    startedAtMs: null,
  });
  addEvent(h, undefined, { type: EVENT.taskLeased, taskId: id, runId: '', attempt: 1 });
}

function setEpoch(h: WholeHistory, mark: string, from: number, to: number): void {
  const taskId = idOf(h, mark);
  for (const rows of [h.database.attempts, h.database.outcomes, h.effects, h.calls])
    for (const row of rows)
      if ('taskId' in row && row.taskId === taskId && 'epoch' in row && row.epoch === from) row.epoch = to;
}

// The mutations. ----------------------------------------------------------------------------------------------------------

const mutation = (breaks: number | readonly number[], name: string, mutate: (h: WholeHistory) => void): Mutation => ({
  name,
  breaks: typeof breaks === 'number' ? [breaks] : breaks,
  mutate,
});

/** For each invariant, ways to break it. Each is found by its number, and by no other where no other is named. */
export const MUTATIONS: readonly Mutation[] = [
  mutation(1, 'an acknowledged task is gone without a trace', (h) => forget(h, idOf(h, CAST.scheduled))),
  mutation(1, 'an acknowledged run is gone', (h) => {
    forget(h, nodeTask(h, 'a'));
    forget(h, nodeTask(h, 'b'));
    for (const event of h.database.events.filter((e) => e.runId !== '')) dropEvent(h, event);
    h.database.runs = [];
    h.database.runNodes = [];
  }),
  mutation(1, 'a refused submit is there', (h) => twin(h, idOf(h, CAST.scheduled), { mark: 'mark refused' })),
  mutation(1, 'a task that nobody submitted', (h) => twin(h, idOf(h, CAST.scheduled), { mark: null })),
  mutation(1, 'a submit is answered with the task of another', (h) => {
    taskOf(h, CAST.scheduled).mark = 'mark adrift';
  }),
  mutation(1, 'a client sees another end than is kept', (h) => {
    for (const op of h.operations) if (op.type === 'see_end') op.state = 'failed';
  }),
  mutation(1, 'a client sees another output than is kept', (h) => {
    for (const op of h.operations) if (op.type === 'see_end') op.outputSha256 = 'other';
  }),
  mutation(1, 'an acknowledged cancel was none', (h) => {
    h.operations.push({
      by: 'client',
      invokedAtMs: h.database.takenAtMs,
      answeredAtMs: h.database.takenAtMs,
      outcome: 'ok',
      type: 'cancel',
      taskId: idOf(h, CAST.plain),
      answered: 'cancelled',
    });
  }),
  mutation(1, 'a task was acknowledged as sent again, and was not', (h) => {
    for (const op of h.operations) if (op.type === 'resend') op.newTaskId = idOf(h, CAST.plain);
  }),

  mutation(2, 'a task ends twice', (h) => {
    const end = eventOf(h, CAST.plain, EVENT.taskSucceeded);
    addEvent(h, end, {});
  }),
  mutation(2, 'an end is taken back', (h) =>
    addEvent(h, eventOf(h, CAST.plain, EVENT.taskSucceeded), { type: EVENT.taskReady }),
  ),
  mutation(2, 'a step that is not in the table', (h) => dropEvent(h, eventOf(h, CAST.retried, EVENT.taskReady))),
  mutation(2, 'the row says another end than the events', (h) => {
    outcomeOf(h, CAST.dead).state = 'cancelled';
  }),
  mutation(2, 'a task is in two places', (h) =>
    h.database.ready.push({ taskId: idOf(h, CAST.plain), epoch: 1, attempt: 1 }),
  ),
  mutation([2, 16], 'a task is nowhere', (h) => {
    h.database.outcomes = h.database.outcomes.filter((o) => o.taskId !== idOf(h, CAST.scheduled));
  }),
  mutation(2, 'an end of an older epoch', (h) => {
    const outcome = outcomeOf(h, CAST.retried);
    outcome.epoch = 1;
    outcome.outputSha256 = null;
  }),
  mutation(2, 'an end in another attempt than its event', (h) => {
    outcomeOf(h, CAST.retried).attempt = 1;
  }),
  mutation(2, 'events of a task that is not there', (h) =>
    addEvent(h, undefined, { taskId: '77', runId: '', type: EVENT.taskCancelRequested }),
  ),

  mutation(3, 'an attempt is skipped', (h) => {
    attemptOf(h, CAST.retried, 2).attempt = 3;
    outcomeOf(h, CAST.retried).attempt = 3;
    eventOf(h, CAST.retried, EVENT.taskLeased, 1).attempt = 3;
    eventOf(h, CAST.retried, EVENT.taskSucceeded).attempt = 3;
  }),
  mutation(3, 'an attempt handed back is counted', (h) => {
    attemptOf(h, CAST.returned, 2).attempt = 2;
    outcomeOf(h, CAST.returned).attempt = 2;
    eventOf(h, CAST.returned, EVENT.taskLeased, 1).attempt = 2;
    eventOf(h, CAST.returned, EVENT.taskSucceeded).attempt = 2;
  }),
  mutation(3, 'an epoch is skipped', (h) => setEpoch(h, CAST.retried, 2, 3)),
  mutation(3, 'epochs begin at 2', (h) => setEpoch(h, CAST.plain, 1, 2)),

  mutation(4, 'granted while the lease before is held', (h) => {
    attemptOf(h, CAST.returned, 2).grantedAtMs = attemptOf(h, CAST.returned).endedAtMs - 1;
  }),
  mutation(4, 'granted while a lease long before is held', (h) => {
    const late = attemptOf(h, CAST.returned);
    late.endedAtMs = attemptOf(h, CAST.returned, 2).grantedAtMs + 1;
  }),

  mutation(5, 'the completion of a lost lease is accepted', (h) => {
    Object.assign(staleCall(h, 'complete'), { outcome: 'ok' });
  }),
  mutation(5, 'the checkpoint of a lost lease is accepted', (h) => {
    Object.assign(staleCall(h, 'checkpoint'), { outcome: 'ok' });
  }),
  mutation(5, 'a stale completion is refused with another reason', (h) => {
    staleCall(h, 'complete').reason = 'INVALID_REQUEST';
  }),
  mutation(5, 'a completion is refused, and taken', (h) => {
    Object.assign(completionOf(h, CAST.plain), { outcome: 'fail', reason: 'LEASE_LOST' });
  }),
  mutation(5, 'a completion is accepted from a session that holds nothing', (h) => {
    completionOf(h, CAST.plain).sessionId = sessionOf(h, CAST.lost).id;
  }),
  mutation(5, 'a success is accepted and kept as a failure', (h) => {
    Object.assign(completionOf(h, CAST.dead), { reported: 'succeeded' });
  }),
  mutation(5, 'a checkpoint is refused, and kept', (h) => {
    h.database.checkpoints.at(-1)!.saveId = 'too late';
  }),
  mutation(5, 'a session is renewed after its time is over', (h) => {
    const renewal = h.calls.findLast((c) => c.type === 'renew')!;
    const atMs = renewal.invokedAtMs + 2 * h.settings.leaseTtlMs;
    h.calls.push({ ...renewal, invokedAtMs: atMs, answeredAtMs: atMs + 1 });
  }),
  mutation(5, 'a renewal is accepted and not kept', (h) => {
    const renewal = h.calls.findLast((c) => c.type === 'renew')!;
    h.database.sessions.find((s) => s.id === renewal.sessionId)!.renewedAtMs = renewal.invokedAtMs - 1;
  }),

  mutation(6, 'a number is given twice', (h) => {
    h.database.checkpoints.at(-1)!.number = 2;
  }),
  mutation(6, 'a number is left out', (h) => {
    h.database.checkpoints.at(-1)!.number = 4;
    h.database.checkpointCounters.set(idOf(h, CAST.lost), 4);
    for (const call of h.calls) if (call.type === 'checkpoint' && call.number === 3) call.number = 4;
  }),
  mutation(6, 'two saves are answered with one number', (h) => {
    for (const call of h.calls) if (call.type === 'checkpoint' && call.number === 2) call.number = 1;
  }),
  mutation(6, 'a save and its repetition get two numbers', (h) => {
    const save = h.calls.findLast((c) => c.type === 'checkpoint' && c.outcome === 'ok')!;
    h.calls.push({ ...save, number: 9 } as typeof save);
  }),
  mutation(6, 'a new attempt starts from an older checkpoint', (h) => {
    effectOf(h, CAST.lost, 2).resumedFrom = 1;
  }),
  mutation(6, 'a new attempt starts from nothing', (h) => {
    effectOf(h, CAST.lost, 2).resumedFrom = null;
  }),
  mutation(6, 'a first attempt starts from what came later', (h) => {
    effectOf(h, CAST.lost, 1).resumedFrom = 2;
  }),

  mutation(7, 'a watcher misses an event', (h) => {
    (h.watchers[0]!.connections[0]!.events as Log).splice(5, 1);
  }),
  mutation(7, 'a watcher sees events again after a reconnect', (h) => {
    const [before, after] = h.watchers[0]!.connections;
    (after!.events as Log).unshift(before!.events.at(-1) as Log[number]);
  }),
  mutation(7, 'a watcher sees the events of a task in another order', (h) => {
    const id = idOf(h, CAST.plain);
    const events = h.watchers[0]!.connections[0]!.events as Log;
    const [i, j] = [events.findIndex((e) => e.taskId === id), events.findLastIndex((e) => e.taskId === id)];
    [events[i], events[j]] = [events[j]!, events[i]!];
  }),
  mutation(7, 'a watcher loses a task between two connections', (h) => {
    (h.watchers[1]!.connections[2]!.events as Log).shift();
  }),
  mutation(7, 'a watcher loses the end of the log', (h) => {
    (h.watchers[1]!.connections[2]!.events as Log).pop();
  }),
  mutation(7, 'a lease left no event', (h) => {
    dropEvent(h, eventOf(h, CAST.returned, EVENT.taskLeased));
    dropEvent(h, eventOf(h, CAST.returned, EVENT.taskReleased));
  }),
  mutation(7, 'events of a lease that nobody held', (h) => {
    const released = eventOf(h, CAST.returned, EVENT.taskReleased);
    addEvent(h, released, {});
    addEvent(h, released, { type: EVENT.taskLeased });
  }),
  mutation([2, 7], 'the event of a submit is missing', (h) =>
    dropEvent(h, eventOf(h, CAST.plain, EVENT.taskSubmitted)),
  ),

  mutation(8, 'a node is granted before what it needs has succeeded', (h) => {
    const needed = h.database.outcomes.find((o) => o.taskId === nodeTask(h, 'a'))!;
    needed.endedAtMs += 1_000;
  }),
  mutation(8, 'a node is started twice', (h) => twin(h, nodeTask(h, 'b'), {})),
  mutation(8, 'a run is over while a node runs', (h) => {
    h.database.runNodes.at(-1)!.state = 'running';
  }),
  mutation([8, 16], 'a run goes on, and all its nodes have ended', (h) => {
    h.database.runs[0]!.state = 'running';
  }),
  mutation(8, 'a node says another end than its task', (h) => {
    h.database.runNodes[0]!.state = 'failed';
  }),

  mutation(9, 'an attempt comes before its delay is over', (h) => {
    attemptOf(h, CAST.retried, 2).grantedAtMs = attemptOf(h, CAST.retried).endedAtMs + 4_999;
  }),
  mutation(9, 'the delay is shorter than the policy says', (h) => {
    attemptOf(h, CAST.retried).retryDelayMs = 4_000;
  }),
  mutation(9, 'an attempt after a failure that is not to be retried', (h) => {
    Object.assign(attemptOf(h, CAST.retried).failure!, { nonRetryable: true });
  }),
  mutation(9, 'more attempts than the maximum', (h) => {
    taskOf(h, CAST.retried).maxAttempts = 1;
  }),
  mutation(9, 'a task goes on that is poison', (h) => {
    h.settings.poisonCrashes = 1;
  }),

  mutation(10, 'a breaker takes a step that does not follow from the one before', (h) => {
    h.database.breakerChanges.splice(1, 1);
  }),
  mutation(10, 'a breaker takes a step that is not in the table', (h) => {
    const [opened, halved] = h.database.breakerChanges;
    Object.assign(opened!, { to: 'half_open' });
    Object.assign(halved!, { from: 'half_open', to: 'half_open' });
  }),
  mutation(10, 'a grant while the breaker is open', (h) => {
    probes(h)[0]!.grantedAtMs = h.database.breakerChanges[1]!.atMs - 1;
  }),
  mutation(10, 'two probes at once', (h) => {
    probes(h)[1]!.grantedAtMs = probes(h)[0]!.endedAtMs - 1;
  }),
  mutation(10, 'a breaker opens for what a task did', (h) => {
    Object.assign(h.database.attempts.find((a) => a.failure?.type === 'NETWORK_ERROR')!.failure!, {
      type: 'EVALUATION_ERROR',
    });
  }),
  mutation(10, 'a breaker lets a probe through too early', (h) => {
    const openMs = 2 * h.settings.breaker!.openMs;
    h.settings.breaker = { ...h.settings.breaker!, openMs, soleOpenMs: openMs };
  }),
  mutation(10, 'a breaker closes after too few good probes', (h) => {
    h.settings.breaker = { ...h.settings.breaker!, successes: 3 };
  }),

  mutation(11, 'a grant to a session whose time is over', (h) => {
    sessionOf(h, CAST.keyed).expiresAtMs = attemptOf(h, CAST.keyed).grantedAtMs - 1;
  }),
  mutation(11, 'a grant to a drained session', (h) => {
    const { id } = sessionOf(h, CAST.keyed);
    const atMs = attemptOf(h, CAST.keyed).grantedAtMs - 1;
    h.operations.push({
      by: 'client',
      invokedAtMs: atMs,
      answeredAtMs: atMs,
      outcome: 'ok',
      type: 'drain_worker',
      worker: 'first',
      sessionId: id,
    });
  }),
  mutation(11, 'a grant to a session that was replaced', (h) => {
    const session = sessionOf(h, CAST.keyed);
    h.database.sessions.push({ ...session, id: '8000', registeredAtMs: attemptOf(h, CAST.keyed).grantedAtMs - 1 });
  }),
  mutation(11, 'a task of a class that the worker does not take', (h) => {
    h.database.lanes[0]!.taskClass = 'gpu';
  }),
  mutation(11, 'a task that asks for a tag that the worker lacks', (h) => {
    h.database.workers[1]!.capabilities.tags = [];
  }),
  mutation(11, 'a worker works on more tasks than it has slots', (h) => {
    for (const mark of [CAST.plain, CAST.scheduled]) effectOf(h, mark).endedAtMs = null;
  }),
  mutation(11, 'a session holds more leases than slots', (h) => {
    const [one, two] = [CAST.keyed, CAST.landed].map((mark) => attemptOf(h, mark));
    two!.grantedAtMs = one!.grantedAtMs;
    h.database.workers[0]!.capabilities.slots = 1;
    for (const effect of h.effects) if (effect.sessionId === one!.sessionId) effect.endedAtMs = effect.startedAtMs;
  }),

  mutation(11, 'a device in two leases', (h) => {
    h.database.deviceLeases = [CAST.plain, CAST.scheduled].map((mark) => ({
      scope: 0,
      uuid: 'GPU-1',
      place: 0,
      workerId: 1,
      taskId: idOf(h, mark),
      epoch: 1,
    }));
  }),
  mutation(11, 'a device whose next lease is of another worker', (h) => {
    h.database.deviceLeases = [CAST.plain, CAST.scheduled].map((mark, place) => ({
      scope: 0,
      uuid: 'GPU-1',
      place,
      workerId: place,
      taskId: idOf(h, mark),
      epoch: 1,
    }));
  }),
  mutation(11, 'a device whose lease has gone', (h) => {
    h.database.deviceLeases = [
      { scope: 0, uuid: 'GPU-1', place: 0, workerId: 1, taskId: idOf(h, CAST.plain), epoch: 1 },
    ];
  }),
  mutation(11, 'two processes with one device at the same time', (h) => {
    const [one, two] = [CAST.plain, CAST.scheduled].map((mark) => effectOf(h, mark));
    one!.devices = ['GPU-1'];
    two!.devices = ['GPU-1'];
    for (const effect of [one!, two!]) effect.endedAtMs = null;
  }),

  mutation(12, 'a grant after the answer to a cancel', (h) => {
    const atMs = attemptOf(h, CAST.returned, 2).grantedAtMs - 1;
    h.operations.push({
      by: 'client',
      invokedAtMs: atMs - 1,
      answeredAtMs: atMs,
      outcome: 'ok',
      type: 'cancel',
      taskId: idOf(h, CAST.returned),
      answered: 'asked',
    });
  }),
  mutation(12, 'a grant after the request to stop', (h) => {
    addEvent(h, eventOf(h, CAST.returned, EVENT.taskLeased), { type: EVENT.taskCancelRequested });
  }),
  mutation(12, 'a node is granted long after its run was cancelled', (h) => {
    const atMs = h.database.runs[0]!.createdAtMs;
    h.operations.push({
      by: 'client',
      invokedAtMs: atMs - 1,
      answeredAtMs: atMs,
      outcome: 'ok',
      type: 'cancel_run',
      runId: '500',
    });
  }),

  mutation(13, 'a key stands for two tasks', (h) => twin(h, idOf(h, CAST.keyed), {})),
  mutation(13, 'a key is answered with two tasks', (h) => {
    const again = h.operations.findLast((op) => op.type === 'submit' && op.mark === CAST.keyed)!;
    Object.assign(again, { taskId: idOf(h, CAST.plain) });
  }),
  mutation(13, 'a key is accepted with another body', (h) => {
    const other = h.operations.find((op) => op.type === 'submit' && op.mark === 'mark conflict')!;
    Object.assign(other, { outcome: 'ok', taskId: idOf(h, CAST.keyed) });
  }),

  mutation(14, 'two processes at once, and the first had reported its end', (h) => {
    effectOf(h, CAST.retried, 1).endedAtMs = effectOf(h, CAST.retried, 2).startedAtMs + 5;
  }),
  mutation(14, 'one lease is worked on twice', (h) => {
    const effect = effectOf(h, CAST.plain);
    h.effects.push({ ...effect, startedAtMs: effect.startedAtMs + 100_000, endedAtMs: effect.startedAtMs + 100_001 });
  }),
  mutation(14, 'a session works on a lease of another', (h) => {
    effectOf(h, CAST.plain).sessionId = sessionOf(h, CAST.keyed).id;
  }),
  mutation(14, 'work begins before the grant', (h) => {
    effectOf(h, CAST.plain).startedAtMs = attemptOf(h, CAST.plain).grantedAtMs - 1;
  }),
  mutation(14, 'the output of a lost epoch is kept', (h) => {
    outcomeOf(h, CAST.lost).outputSha256 = effectOf(h, CAST.lost, 1).outputSha256!;
  }),
  mutation(14, 'a success that nobody worked for', (h) => {
    h.effects = h.effects.filter((e) => !(e.taskId === idOf(h, CAST.lost) && e.epoch === 2));
  }),

  mutation(15, 'a denied submit is there', (h) => twin(h, idOf(h, CAST.scheduled), { mark: 'mark denied' })),
  mutation(15, 'a denied completion is taken', (h) => {
    Object.assign(completionOf(h, CAST.plain), { outcome: 'fail', code: 'permission_denied' });
  }),

  mutation(16, 'a task still waits', (h) => strand(h, 'ready')),
  mutation(16, 'a lease of a session that is over', (h) => strand(h, 'leased')),
  mutation(16, 'a task ends late', (h) => {
    h.settings.livenessMs = 5;
  }),
  mutation(16, 'a connection is idle in a transaction', (h) => {
    h.database.activity.idleInTransaction = 1;
  }),
  mutation(16, 'steps of runs are left', (h) => {
    h.database.advances = 1;
  }),

  mutation(17, 'most operations were not acknowledged', (h) => {
    h.settings.acknowledgedShare = 0.99;
  }),
  mutation(17, 'a fault never fired', (h) => h.settings.expectedFaults.push('kill_worker')),
  mutation(17, 'no stale call was rejected', (h) => {
    h.calls = h.calls.filter((c) => c.outcome !== 'fail');
  }),
];
