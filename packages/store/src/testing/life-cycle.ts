import { createIdMaker, mayMove, TASK_STATES, type TaskState } from '@baton/domain';
import { cancelTasks } from '../cancel.ts';
import { claimTasks, loadSpecs } from '../claim.ts';
import { completeTasks } from '../complete.ts';
import type { Sql } from '../connection.ts';
import { sweepStartDeadlines } from '../deadlines.ts';
import { internLane } from '../lanes.ts';
import { numbers } from '../literals.ts';
import { closeSession, drainWorker, registerWorker } from '../sessions.ts';
import { leasesOf, type Settlement, settleTasks } from '../settle.ts';
import { type NewTask, submitTasks } from '../submit.ts';
import { sweepSessions } from '../sweep.ts';
import { promoteDue } from '../waiting.ts';
import { LifeCycleModel, type ModelSession } from './life-cycle-model.ts';
import { type ObservedTask, observeTasks } from './observe.ts';
import { type Random, seededRandom } from './random.ts';

/** The database and the model of it went different ways. */
export class LifeCycleDivergence extends Error {
  override readonly name = 'LifeCycleDivergence';
}

export interface LifeCycleReport {
  tasks: number;
  /** How many of each there were, so that a test can see that none was missing. */
  granted: number;
  completed: number;
  settled: number;
  /** Words about leases that were not held; each changed nothing. */
  stale: number;
  cancelled: number;
  promoted: number;
  swept: number;
  /** Every step of a task that was seen, as "from→to". */
  transitions: Set<string>;
}

const DAY_MS = 86_400_000;
const LANES = 4;
const WORKERS = ['w1', 'w2', 'w3'];

/**
 * Drives the statements of a task's life in a random order that the seed fixes, each beside a model of what it should do, and
 * compares all tasks after each step. The database must be migrated and is left with the tasks in it. No step waits: what time
 * would do (a task falls due, a session expires) is written into the rows.
 * @throws LifeCycleDivergence, IllegalTransition, TaskMisplaced
 */
export async function driveLifeCycle(sql: Sql, options: { seed: number; steps: number }): Promise<LifeCycleReport> {
  const run = new LifeCycleRun(sql, seededRandom(options.seed));
  await run.begin();
  for (let step = 1; step <= options.steps; step++) await run.step(step);
  return run.report;
}

class LifeCycleRun {
  readonly report: LifeCycleReport = {
    tasks: 0,
    granted: 0,
    completed: 0,
    settled: 0,
    stale: 0,
    cancelled: 0,
    promoted: 0,
    swept: 0,
    transitions: new Set(),
  };
  private readonly model = new LifeCycleModel();
  private readonly sql: Sql;
  private readonly random: Random;
  /** A day behind, so that times between then and now are both after the tasks' ids and due. */
  private clockMs = Date.now() - DAY_MS;
  private dueMs = Date.now() - DAY_MS / 2;
  private readonly ids = createIdMaker(1, () => this.clockMs++);
  private readonly lanes: { id: number; routeId: number }[] = [];
  private readonly batches: NewTask[][] = [];
  private readonly grants: { taskId: string; epoch: number; sessionId: string }[] = [];
  private before = new Map<string, ObservedTask>();
  private doing = '';

  constructor(sql: Sql, random: Random) {
    this.sql = sql;
    this.random = random;
  }

  async begin(): Promise<void> {
    for (let n = 0; n < LANES; n++) {
      const key = { queue: `queue ${n % 2}`, kind: `kind ${n}`, executor: 'function', taskClass: 'cpu_short' } as const;
      this.lanes.push(await internLane(this.sql, { namespaceId: 1, tags: [], ...key }));
    }
    for (const worker of WORKERS) await this.register(worker);
  }

  async step(step: number): Promise<void> {
    const actions: [weight: number, name: string, act: () => Promise<void>][] = [
      [20, 'submit', () => this.submit()],
      [3, 'submit again', () => this.submitAgain()],
      [25, 'claim', () => this.claim()],
      [16, 'complete', () => this.complete()],
      [16, 'settle', () => this.settle()],
      [5, 'cancel', () => this.cancel()],
      [10, 'fall due', () => this.fallDue()],
      [10, 'promote', () => this.promote()],
      [4, 'start too late', () => this.startTooLate()],
      [4, 'pause', () => this.pause()],
      [8, 'register', () => this.register(this.random.pick(WORKERS))],
      [2, 'drain', () => this.drain()],
      [3, 'close', () => this.close()],
      [4, 'expire', () => this.expire()],
      [8, 'sweep', () => this.sweep()],
    ];
    const [, name, act] = this.random.pick(
      actions.flatMap((action) => Array(action[0]).fill(action) as typeof actions),
    );
    this.doing = `step ${step}, ${name}`;
    await act();
    await this.compare();
  }

  private async submit(): Promise<void> {
    const batch = Array.from({ length: 1 + this.random.below(6) }, (): NewTask => {
      const lane = this.random.pick(this.lanes);
      const kind = this.random.below(4);
      const dueAtMs = kind === 0 ? ++this.dueMs : kind === 1 ? Date.now() + DAY_MS : null;
      return {
        id: this.ids.next(),
        namespaceId: 1,
        routeId: lane.routeId,
        laneId: lane.id,
        priority: this.random.below(3) - 1,
        maxAttempts: 4,
        startToCloseMs: 60_000,
        encoding: 1,
        input: new Uint8Array(this.random.chance(0.2) ? 2000 : 8).fill(0x20),
        dueAtMs,
        idempotency: null,
        extra: this.random.chance(0.3) ? { labels: { a: 'b' } } : null,
      };
    });
    this.batches.push(batch);
    const stored = await submitTasks(this.sql, this.random.some(batch, batch.length));
    this.same(
      stored,
      batch.map((task) => task.id),
    );
    for (const { id, laneId, priority, dueAtMs, input } of batch)
      this.model.submit(
        { id, laneId, priority, dueAtMs, inline: input!.length <= 1024 },
        dueAtMs !== null && dueAtMs < Date.now(),
      );
    this.report.tasks += batch.length;
  }

  private async submitAgain(): Promise<void> {
    if (this.batches.length === 0) return;
    this.same(await submitTasks(this.sql, this.random.pick(this.batches)), []);
  }

  private async claim(): Promise<void> {
    const laneIds = this.random.some(this.lanes, 1 + this.random.below(LANES)).map((lane) => lane.id);
    const wants = [...this.random.some(this.alive(), 2), ...this.random.some(this.over(), this.random.below(2))].map(
      ({ id }) => ({ sessionId: id, count: 1 + this.random.below(3) }),
    );
    const grants = await claimTasks(this.sql, laneIds, wants);
    const expected = this.model.claim(laneIds, wants);
    this.same(
      grants.map((g) => `${g.taskId} ${g.epoch} ${g.attempt} ${g.sessionId} ${g.input !== null}`),
      expected.map((g) => `${g.taskId} ${g.epoch} ${g.attempt} ${g.sessionId} ${g.inline}`),
    );
    const large = grants.filter((g) => g.input === null).map((g) => g.taskId);
    const specs = await loadSpecs(this.sql, large);
    this.same(specs.keys(), large);
    for (const grant of grants) {
      const last = Math.max(0, ...this.grants.filter((g) => g.taskId === grant.taskId).map((g) => g.epoch));
      if (grant.epoch <= last) this.diverge(`epoch ${grant.epoch} of ${grant.taskId} is not above ${last}`);
      this.grants.push({ taskId: grant.taskId, epoch: grant.epoch, sessionId: grant.sessionId });
    }
    this.report.granted += grants.length;
  }

  /** Some that hold, and some that did once or that another session holds. */
  private words(): { taskId: string; epoch: number; sessionId: string }[] {
    const held = this.grants.filter((word) => this.model.held(word));
    const stale = this.grants.filter((word) => !this.model.held(word));
    const foreign = held.map((word) => ({ ...word, sessionId: this.random.pick([...this.model.sessions.keys()]) }));
    const forged = held.map((word) => ({ ...word, epoch: word.epoch + this.random.pick([-1, 1]) }));
    const words = [
      ...this.random.some(held, 1 + this.random.below(5)),
      ...this.random.some(
        stale.filter((word) => this.model.tasks.get(word.taskId)!.state === 'leased'),
        this.random.below(3),
      ),
      ...this.random.some(stale, this.random.below(2)),
      ...this.random.some(forged, this.random.below(2)),
      ...this.random.some(
        foreign.filter((word) => !this.model.held(word)),
        this.random.below(2),
      ),
    ];
    const one = new Map(words.map((word) => [word.taskId, word]));
    return this.random.some([...one.values()], one.size);
  }

  private async complete(): Promise<void> {
    const words = this.words();
    const batch = words.map((word) => ({ ...word, output: Uint8Array.of(0x31), encoding: 1 as const, ranUs: 10 }));
    const ended = await completeTasks(this.sql, batch);
    const expected = words.filter((word) => this.model.held(word));
    this.same(
      ended.map((e) => e.taskId),
      expected.map((word) => word.taskId),
    );
    for (const word of expected) this.model.complete(this.model.held(word)!);
    this.report.completed += expected.length;
    this.report.stale += words.length - expected.length;
  }

  private async settle(): Promise<void> {
    const ways = [
      { attempt: 'failed', next: 'backoff', delayMs: 0, budget: 'none' },
      { attempt: 'failed', next: 'backoff', delayMs: DAY_MS, budget: 'none' },
      { attempt: 'failed', next: 'failed', delayMs: null, budget: 'none' },
      { attempt: 'cancelled', next: 'cancelled', delayMs: null, budget: 'none' },
      { attempt: 'returned', next: 'ready', delayMs: null, budget: 'none' },
      { attempt: 'lost', next: 'ready', delayMs: null, budget: 'crash' },
    ] as const;
    await this.settleAs(this.words().map((word) => ({ ...word, ...this.random.pick(ways), failure: null, ranUs: 5 })));
  }

  private async settleAs(batch: Settlement[]): Promise<void> {
    const settled = await settleTasks(this.sql, batch);
    const expected = batch
      .filter((word) => this.model.held(word))
      // A cancel that was acknowledged comes before whatever was decided without it.
      .map((word): Settlement => {
        const isCancelled = this.model.held(word)!.cancelReason !== null && ['ready', 'backoff'].includes(word.next);
        return isCancelled ? { ...word, next: 'cancelled', delayMs: null } : word;
      });
    this.same(
      settled.map((s) => `${s.taskId} ${s.next}`),
      expected.map((s) => `${s.taskId} ${s.next}`),
    );
    for (const word of expected) this.model.settle(this.model.held(word)!, word);
    this.report.settled += expected.length;
    this.report.stale += batch.length - expected.length;
  }

  private async cancel(): Promise<void> {
    const tasks = this.random.some(TASK_STATES, 4).flatMap((state) => this.random.some(this.model.in(state), 1));
    const reason = `because of ${this.doing}`;
    const results = await cancelTasks(
      this.sql,
      tasks.map((task) => task.id),
      reason,
    );
    const expected = tasks.map((task) => ({ id: task.id, now: this.model.cancel(task, reason) }));
    const changed = expected.filter((e) => e.now !== 'ended');
    this.same(
      [...results.values()].map((r) => `${r.taskId} ${r.now}`),
      changed.map((e) => `${e.id} ${e.now}`),
    );
    this.report.cancelled += changed.length;
  }

  /** What time would do to tasks that are due tomorrow. */
  private async fallDue(): Promise<void> {
    const later = [...this.model.in('scheduled'), ...this.model.in('backoff')].filter((task) => !task.isDue);
    for (const task of this.random.some(later, 3)) {
      task.isDue = true;
      task.dueAtMs = ++this.dueMs;
      await this.sql.unsafe('update baton.waiting set due_at = $2::timestamptz where task_id = $1', [
        task.id,
        new Date(task.dueAtMs).toISOString(),
      ]);
    }
  }

  private async promote(): Promise<void> {
    const { moved, laneIds } = await promoteDue(this.sql, 1000);
    const expected = this.model.promote();
    this.same([moved], [expected.length]);
    this.same(laneIds, new Set(expected.map((task) => task.laneId)));
    this.report.promoted += moved;
  }

  /** Times to be started by run out, for tasks wherever they are: only those that are ready end. */
  private async startTooLate(): Promise<void> {
    const tasks = this.random.some(TASK_STATES, 5).flatMap((state) => this.random.some(this.model.in(state), 1));
    await this.sql.unsafe(
      `insert into baton.start_deadlines select id, 1, clock_timestamp() - interval '1 s' from unnest($1::bigint[]) i(id)
       on conflict (task_id) do update set expires_at = excluded.expires_at`,
      [numbers(tasks.map((task) => task.id))],
    );
    const { ended } = await sweepStartDeadlines(this.sql, 1000);
    const expected = tasks.filter((task) => task.state === 'ready');
    this.same(
      ended.map((e) => e.taskId),
      expected.map((task) => task.id),
    );
    for (const task of expected) this.model.failToStart(task);
    await this.sql.unsafe('delete from baton.start_deadlines');
  }

  private async pause(): Promise<void> {
    const { id } = this.random.pick(this.lanes);
    const paused = !this.model.pausedLanes.has(id);
    if (paused) this.model.pausedLanes.add(id);
    else this.model.pausedLanes.delete(id);
    await this.sql.unsafe('update baton.lanes set paused = $2 where id = $1', [id, paused]);
  }

  private async register(worker: string): Promise<void> {
    const sessionId = this.ids.next();
    const { sessionId: given } = await registerWorker(this.sql, {
      sessionId,
      namespaceId: 1,
      name: worker,
      instanceId: `instance ${sessionId}`,
      capabilities: {},
      serviceUrl: '',
      version: '0',
      metadata: {},
      leaseTtlMs: DAY_MS,
    });
    this.same([given], [sessionId]);
    for (const session of this.model.sessions.values())
      if (session.worker === worker && session.state === 'active') session.state = 'draining';
    this.model.sessions.set(sessionId, { id: sessionId, worker, state: 'active', expired: false });
  }

  private async drain(): Promise<void> {
    const worker = this.random.pick(WORKERS);
    const drained = await drainWorker(this.sql, 1, worker, 'test');
    const session = [...this.model.sessions.values()].filter((s) => s.worker === worker).at(-1)!;
    if (session.state === 'closed') return this.same([drained], [null]);
    session.state = 'draining';
    this.same([drained!.sessionId, drained!.leases], [session.id, this.leasesHeld(session)]);
  }

  private async close(): Promise<void> {
    const session = this.random.pick([...this.alive(), ...this.random.some(this.over(), 1)]);
    if (!session) return;
    this.same([await closeSession(this.sql, session.id, 'left')], [session.state !== 'closed']);
    session.state = 'closed';
  }

  private async expire(): Promise<void> {
    // Also one that left, and whose leases nobody handed back.
    const left = [...this.model.sessions.values()].filter((s) => s.state === 'closed' && !s.expired);
    const session = this.random.pick([...this.alive(), ...left.filter((s) => this.leasesHeld(s) > 0)]);
    if (!session) return;
    session.expired = true;
    await this.sql.unsafe(`update baton.sessions set expires_at = clock_timestamp() - interval '1 ms' where id = $1`, [
      session.id,
    ]);
  }

  /** As a master does it: close what is over, then settle what those sessions hold, perhaps not all at once. */
  private async sweep(): Promise<void> {
    // However slow this machine is: there was no outage.
    await this.sql.unsafe(`update baton.sweeps set last_at = clock_timestamp() where name = 'sessions'`);
    const swept = await sweepSessions(this.sql);
    const sessions = [...this.model.sessions.values()];
    const over = sessions.filter((s) => s.expired && s.state !== 'closed');
    const left = sessions.filter((s) => s.state === 'closed' && s.expired && this.leasesHeld(s) > 0);
    this.same(
      swept.map((s) => `${s.sessionId} ${s.now}`),
      [...over.map((s) => `${s.id} true`), ...left.map((s) => `${s.id} false`)],
    );
    for (const session of over) session.state = 'closed';
    const limit = this.random.chance(0.5) ? 1 : 1000;
    const held = await leasesOf(
      this.sql,
      swept.map((s) => s.sessionId),
      limit,
    );
    const expected = [...over, ...left].reduce((sum, session) => sum + this.leasesHeld(session), 0);
    this.same([held.length], [Math.min(limit, expected)]);
    await this.settleAs(
      held.map((lease) => ({
        taskId: lease.taskId,
        epoch: lease.epoch,
        sessionId: lease.sessionId,
        attempt: 'lost',
        next: 'backoff',
        delayMs: 0,
        budget: 'crash',
        failure: null,
        ranUs: 0,
      })),
    );
    this.report.swept += over.length;
  }

  private alive(): ModelSession[] {
    return [...this.model.sessions.values()].filter((s) => s.state === 'active' && !s.expired);
  }

  private over(): ModelSession[] {
    return [...this.model.sessions.values()].filter((s) => s.state !== 'active' || s.expired);
  }

  private leasesHeld(session: ModelSession): number {
    return this.model.in('leased').filter((task) => task.sessionId === session.id).length;
  }

  /** All tasks against the model, and against what they were before the step. */
  private async compare(): Promise<void> {
    const now = await observeTasks(this.sql);
    this.same(now.keys(), this.model.tasks.keys());
    for (const task of now.values()) {
      const expected = this.model.tasks.get(task.id)!;
      for (const key of Object.keys(task) as (keyof ObservedTask)[])
        if (String(task[key]) !== String(expected[key]))
          this.diverge(`${key} of ${task.id} (${task.state}) is ${task[key]}, should be ${expected[key]}`);
      const from: TaskState | 'none' = this.before.get(task.id)?.state ?? 'none';
      if (from === task.state) continue;
      if (!mayMove(from, task.state)) this.diverge(`${task.id} moved from ${from} to ${task.state}`);
      this.report.transitions.add(`${from}→${task.state}`);
    }
    const leases = await this.sql.unsafe(
      `select session_id, count(*)::integer as n from baton.leases where session_id = any($1::bigint[]) group by 1`,
      [numbers([...this.model.sessions.keys()])],
    );
    for (const row of leases) this.same([row.n], [this.leasesHeld(this.model.sessions.get(row.session_id as string)!)]);
    this.before = now;
  }

  /** As sets. */
  private same(found: Iterable<unknown>, expected: Iterable<unknown>): void {
    const a = [...found].map(String).sort();
    const b = [...expected].map(String).sort();
    if (a.join('\n') !== b.join('\n')) this.diverge(`found [${a.join(', ')}], expected [${b.join(', ')}]`);
  }

  private diverge(how: string): never {
    throw new LifeCycleDivergence(`${this.doing}: ${how}`);
  }
}
