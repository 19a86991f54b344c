// Long because a step for each statement stands beside the others, with the odds of all of them in one table.
import { type Budget, createIdMaker, FAILURE_TYPES, type Failure, TASK_STATES, type TaskState } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import { cancelTasks } from '../tasks/cancel.ts';
import { claimTasks, type Grant, loadSpecs } from '../tasks/claim.ts';
import { claimProbe } from '../tasks/claim-probe.ts';
import { alreadyEnded, completeTasks, type EndedWord } from '../tasks/complete.ts';
import { overdueLeases, sweepStartDeadlines } from '../tasks/deadlines.ts';
import { internLane } from '../tasks/lanes.ts';
import type { NewTask } from '../tasks/new-task.ts';
import { leasesOf, readHeld, type Settlement, settleTasks } from '../tasks/settle.ts';
import { dropExpiredKeys, lookUpKeys, submitHanding, submitTasks } from '../tasks/submit.ts';
import { sweepSessions } from '../tasks/sweep.ts';
import { nextDueMs, promoteDue } from '../tasks/waiting.ts';
import { holdBackAsBreakerSays } from '../workers/breakers.ts';
import {
  closeSession,
  compareHeld,
  drainSession,
  drainWorker,
  markStarted,
  readSession,
  registerWorker,
  renewSessions,
} from '../workers/sessions.ts';
import * as model from './model/index.ts';
import type { Random } from './random.ts';

/** The database and the model of it went different ways. */
export class LifeCycleDivergence extends Error {
  override readonly name = 'LifeCycleDivergence';
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const LANES = 6;
const WORKERS = ['w1', 'w2', 'w3', 'w4'];
const KEYS = 25;

interface Word {
  taskId: string;
  epoch: number;
  sessionId: string;
}

/** Every statement of a task's life and a session's, on Postgres and on the model, with the same arguments. */
export class LifeCycleSteps {
  readonly counts = {
    tasks: 0,
    granted: 0,
    handed: 0,
    completed: 0,
    settled: 0,
    stale: 0,
    cancelled: 0,
    promoted: 0,
    swept: 0,
    steps: {} as Record<string, number>,
  };
  readonly db: model.ModelDatabase;
  doing = '';
  readonly #sql: Sql;
  readonly #random: Random;
  /** The model's time: Postgres's, but never the same twice. Distances in time are of hours and days, or of one side only. */
  #nowMs = 0;
  /** Of ids: a day behind, so that times between then and now are both after the tasks' ids and due. */
  #idMs = Date.now() - DAY_MS;
  #dueMs = Date.now() - DAY_MS / 2;
  #beat = 1;
  readonly #ids = createIdMaker(1, () => this.#idMs++);
  readonly #lanes: { id: number; routeId: number }[] = [];
  readonly #batches: NewTask[][] = [];
  readonly #grants: Word[] = [];
  readonly #registrations: { worker: string; instance: string; sessionId: string }[] = [];

  constructor(sql: Sql, random: Random) {
    this.#sql = sql;
    this.#random = random;
    this.db = new model.ModelDatabase(() => this.#nowMs);
  }

  async begin(): Promise<void> {
    for (let n = 0; n < LANES; n++) {
      const key = { queue: `queue ${n % 2}`, kind: `kind ${n}`, executor: 'function', taskClass: 'cpu_short' } as const;
      const { id, routeId } = await internLane(this.#sql, { namespaceId: 1, tags: [], ...key });
      this.#lanes.push({ id, routeId });
      this.db.addLane({ id, routeId, namespaceId: 1 });
    }
    this.#tick();
    for (const worker of WORKERS) await this.#registerAs(worker, `instance of ${worker}`);
  }

  async step(step: number): Promise<void> {
    const actions: [weight: number, name: string, act: () => Promise<void>][] = [
      [28, 'submit', () => this.#submit(false)],
      [10, 'submit handing', () => this.#submit(true)],
      [8, 'submit bare', () => this.#submitBare()],
      [3, 'submit again', () => this.#submitAgain()],
      [1, 'look up keys', () => this.#lookUpKeys()],
      [1, 'drop expired keys', () => this.#dropExpiredKeys()],
      [42, 'claim', () => this.#claim()],
      [5, 'claim probe', () => this.#claimProbe()],
      [30, 'complete', () => this.#complete()],
      [22, 'settle', () => this.#settle()],
      [4, 'already ended', () => this.#alreadyEnded()],
      [3, 'read held', () => this.#readHeld()],
      [6, 'cancel', () => this.#cancel()],
      [8, 'fall due', () => this.#fallDue()],
      [8, 'promote', () => this.#promote()],
      [4, 'start too late', () => this.#startTooLate()],
      [3, 'pause', () => this.#pause()],
      [8, 'register', () => this.#register()],
      [3, 'register again', () => this.#registerAgain()],
      [1, 'drain worker', () => this.#drainWorker()],
      [1, 'drain session', () => this.#drainSession()],
      [2, 'close', () => this.#close()],
      [9, 'expire', () => this.#expire()],
      [9, 'renew', () => this.#renew()],
      [4, 'mark started', () => this.#markStarted()],
      [4, 'compare held', () => this.#compareHeld()],
      [3, 'age', () => this.#age()],
      [2, 'overdue', () => this.#overdue()],
      [4, 'hold back', () => this.#holdBack()],
      [8, 'sweep', () => this.#sweep()],
      [3, 'outage', () => this.#outage()],
    ];
    const [, name, act] = this.#random.pick(
      actions.flatMap((action) => Array(action[0]).fill(action) as typeof actions),
    );
    this.doing = `step ${step}, ${name}`;
    this.counts.steps[name] = (this.counts.steps[name] ?? 0) + 1;
    this.#tick();
    await act();
  }

  #tick(): void {
    this.#nowMs = Math.max(Date.now(), this.#nowMs + 1);
  }

  // tasks ----------------------------------------------------------------------------------------------------------------

  /** As most tasks are: one, or some in one lane. */
  async #submitBare(): Promise<void> {
    const { id: laneId, routeId } = this.#laneFor(true);
    const count = this.#random.chance(0.6) ? 1 : 2 + this.#random.below(3);
    const batch = Array.from(
      { length: count },
      (): NewTask => ({
        id: this.#ids.next(),
        namespaceId: 1,
        routeId,
        laneId,
        priority: this.#random.below(3) - 1,
        maxAttempts: 4,
        startToCloseMs: 60_000,
        encoding: 1,
        input: new Uint8Array(this.#random.chance(0.2) ? 2000 : 8).fill(0x20),
        dueAtMs: null,
        idempotency: null,
        extra: null,
      }),
    );
    this.#batches.push(batch);
    await this.#submitHanding(batch);
  }

  /** To be handed over, a task's lane must have nothing that is ready, and not be paused. */
  #laneFor(isHanding: boolean) {
    const random = this.#random;
    if (!isHanding || random.chance(0.1)) return random.pick(this.#lanes);
    const lanes = this.#lanes.map((lane) => ({ lane, ...this.db.lanes.get(lane.id)! }));
    const empty = lanes.filter(({ ready }) => ready.length === 0);
    const paused = empty.filter((lane) => lane.paused);
    const wanted = paused.length > 0 && random.chance(0.3) ? paused : empty;
    return wanted.length > 0 ? random.pick(wanted).lane : random.pick(this.#lanes);
  }

  async #submit(isHanding: boolean): Promise<void> {
    const random = this.#random;
    const keys = random.some(Array.from(Array(KEYS).keys()), 6);
    const batch = Array.from({ length: 1 + random.below(6) }, (): NewTask => {
      const lane = this.#laneFor(isHanding);
      const kind = random.below(4);
      const extra: NonNullable<NewTask['extra']> = {};
      if (random.chance(0.3)) extra.labels = { a: 'b' };
      if (random.chance(0.3)) extra.scheduleToStartMs = DAY_MS;
      if (random.chance(0.1)) extra.progressTimeoutMs = HOUR_MS;
      if (random.chance(0.2)) extra.retry = { initialDelayMs: 7 };
      return {
        id: this.#ids.next(),
        namespaceId: 1,
        routeId: lane.routeId,
        laneId: lane.id,
        priority: random.below(3) - 1,
        maxAttempts: 4,
        startToCloseMs: 60_000,
        encoding: 1,
        input: new Uint8Array(random.chance(0.2) ? 2000 : 8).fill(0x20),
        dueAtMs: kind === 0 ? ++this.#dueMs : kind === 1 ? Date.now() + DAY_MS : null,
        idempotency: random.chance(0.2)
          ? {
              scope: 'task:x',
              key: `key ${keys.pop()}`,
              bodyHash: Uint8Array.of(random.below(3)),
              ttlMs: random.chance(0.5) ? DAY_MS : -HOUR_MS,
            }
          : null,
        extra: Object.keys(extra).length > 0 ? extra : null,
      };
    });
    this.#batches.push(batch);
    const sent = random.some(batch, batch.length);
    if (!isHanding) {
      const stored = await submitTasks(this.#sql, sent);
      this.same('stored', stored, model.submitTasks(this.db, sent));
      this.counts.tasks += stored.size;
    } else await this.#submitHanding(sent);
  }

  /** Some of them to sessions that wait, as their master believes: it may be wrong about each. */
  async #submitHanding(batch: NewTask[]): Promise<void> {
    const random = this.#random;
    const refused = this.#refused();
    const alive = this.#alive();
    const takers = batch.map(({ dueAtMs }) => {
      const sessions = refused.length > 0 && random.chance(0.5) ? refused : alive;
      return dueAtMs === null && sessions.length > 0 && random.chance(0.8) ? random.pick(sessions).id : null;
    });
    const { stored, handed } = await submitHanding(this.#sql, batch, takers);
    const expected = model.submitHanding(this.db, batch, takers);
    this.same('stored', stored, expected.stored);
    const show = (given: ReadonlyMap<string, string>) => [...given].map(([task, session]) => `${task} ${session}`);
    this.same('handed over', show(handed).sort(), show(expected.handed).sort());
    for (const [taskId, sessionId] of handed) this.#grants.push({ taskId, epoch: 1, sessionId });
    this.counts.tasks += stored.size;
    this.counts.handed += handed.size;
  }

  async #submitAgain(): Promise<void> {
    if (this.#batches.length === 0) return;
    // Those with keys may be stored after all, once their key is free.
    const batch = this.#random.pick(this.#batches);
    this.same('stored', await submitTasks(this.#sql, batch), model.submitTasks(this.db, batch));
  }

  async #lookUpKeys(): Promise<void> {
    const keys = Array.from({ length: KEYS }, (_, n) => ({ namespaceId: 1, scope: 'task:x', key: `key ${n}` }));
    const show = (holders: ({ id: string; bodyHash: Uint8Array } | null)[]) =>
      holders.map((holder, n) => `${n} ${holder?.id} ${holder?.bodyHash[0]}`);
    this.same('holders', show(await lookUpKeys(this.#sql, keys)), show(model.lookUpKeys(this.db, keys)));
  }

  async #dropExpiredKeys(): Promise<void> {
    this.same('dropped', [await dropExpiredKeys(this.#sql)], [model.dropExpiredKeys(this.db)]);
  }

  async #claim(): Promise<void> {
    const laneIds = this.#someLanes();
    await this.#atLeastOneAlive();
    const sessions = [...this.#random.some(this.#refused(), 1), ...this.#random.some(this.#alive(), 2)];
    if (this.#random.chance(0.4)) sessions.reverse();
    const wants = sessions.map(({ id }) => ({ sessionId: id, count: 1 + this.#random.below(4) }));
    const grants = await claimTasks(this.#sql, laneIds, wants);
    await this.#granted(grants, model.claimTasks(this.db, laneIds, wants));
  }

  /** So that chance does not let all workers be gone for long. */
  async #atLeastOneAlive(): Promise<void> {
    const free = WORKERS.filter((_, n) => (this.db.breakers.get(n + 1)?.state ?? 'closed') === 'closed');
    if (this.#alive().length === 0 && free.length > 0)
      await this.#registerAs(this.#random.pick(free), `instance ${this.#registrations.length}`);
  }

  async #claimProbe(): Promise<void> {
    const sessions = [...this.db.sessions.values()];
    const heldBack = sessions.filter((s) => s.heldBack && s.state !== 'closed');
    const session = this.#random.pick(heldBack.length > 0 && this.#random.chance(0.8) ? heldBack : sessions);
    const laneIds = this.#someLanes();
    const grants = await claimProbe(this.#sql, laneIds, session.id);
    await this.#granted(grants, model.claimProbe(this.db, laneIds, session.id, grants[0]?.taskId));
  }

  async #granted(grants: Grant[], expected: Grant[]): Promise<void> {
    const show = (g: Grant) => `${g.taskId} ${g.laneId} ${g.epoch} ${g.attempt} ${g.sessionId} ${g.input !== null}`;
    this.same('granted', grants.map(show), expected.map(show));
    const large = grants.filter((g) => g.input === null).map((g) => g.taskId);
    this.same('specs', (await loadSpecs(this.#sql, large)).keys(), large);
    for (const { taskId, epoch, sessionId } of grants) {
      const last = Math.max(0, ...this.#grants.filter((g) => g.taskId === taskId).map((g) => g.epoch));
      if (epoch <= last) this.diverge(`epoch ${epoch} of ${taskId} is not above ${last}`);
      this.#grants.push({ taskId, epoch, sessionId });
    }
    this.counts.granted += grants.length;
  }

  /** Some that hold, and some that did once or that another session holds; no two about one task. */
  #words(): Word[] {
    const random = this.#random;
    const isHeld = (word: Word) => model.heldBy(this.db, word) !== undefined;
    const held = this.#grants.filter(isHeld);
    const stale = this.#grants.filter((word) => !isHeld(word));
    const foreign = held.map((word) => ({ ...word, sessionId: random.pick([...this.db.sessions.keys()]) }));
    const forged = held.map((word) => ({ ...word, epoch: word.epoch + random.pick([-1, 1]) }));
    const words = [
      ...random.some(held, 1 + random.below(5)),
      ...random.some(
        stale.filter((word) => this.db.tasks.get(word.taskId)!.lease),
        random.below(3),
      ),
      ...random.some(stale, random.below(2)),
      ...random.some(forged, random.below(2)),
      ...random.some(
        foreign.filter((word) => !isHeld(word)),
        random.below(2),
      ),
    ];
    const one = new Map(words.map((word) => [word.taskId, word]));
    return random.some([...one.values()], one.size);
  }

  async #complete(): Promise<void> {
    const batch = this.#words().map((word) => ({
      ...word,
      output: Uint8Array.of(0x31),
      encoding: 1 as const,
      ranUs: 10,
    }));
    const ended = await completeTasks(this.#sql, batch);
    const expected = model.completeTasks(this.db, batch);
    this.same(
      'completed',
      ended.map((e) => e.taskId),
      expected.map((e) => e.taskId),
    );
    this.counts.completed += ended.length;
    this.counts.stale += batch.length - ended.length;
  }

  async #settle(): Promise<void> {
    const ways = [
      { attempt: 'failed', next: 'backoff', delayMs: 0 },
      { attempt: 'failed', next: 'backoff', delayMs: DAY_MS },
      { attempt: 'failed', next: 'failed', delayMs: null },
      { attempt: 'cancelled', next: 'cancelled', delayMs: null },
      { attempt: 'returned', next: 'ready', delayMs: null },
      { attempt: 'lost', next: 'ready', delayMs: null },
      { attempt: 'lost', next: 'backoff', delayMs: DAY_MS },
    ] as const;
    const budgets: Budget[] = ['none', 'application', 'crash', 'infra', 'memory'];
    await this.#settleAs(
      this.#words().map((word) => ({
        ...word,
        ...this.#random.pick(ways),
        budget: this.#random.pick(budgets),
        laneId: this.#random.chance(0.2) ? this.#random.pick(this.#lanes).id : null,
        failure: this.#failure(),
        ranUs: this.#random.below(2) * 5,
      })),
    );
  }

  #failure(): Failure | null {
    return this.#random.chance(0.3) ? null : { type: this.#random.pick(FAILURE_TYPES), message: 'so it was drawn' };
  }

  async #settleAs(batch: Settlement[]): Promise<void> {
    const settled = await settleTasks(this.#sql, batch);
    const show = (s: { taskId: string; next: string; laneId: number }) => `${s.taskId} ${s.next} ${s.laneId}`;
    this.same('settled', settled.map(show), model.settleTasks(this.db, batch).map(show));
    this.counts.settled += settled.length;
    this.counts.stale += batch.length - settled.length;
  }

  async #alreadyEnded(): Promise<void> {
    const said: EndedWord['said'][] = [undefined, 'succeeded', 'failed', 'cancelled', 'returned'];
    const words = this.#random.some(this.#grants, 12).map((word) => ({ ...word, said: this.#random.pick(said) }));
    const one = [...new Map(words.map((word) => [word.taskId, word])).values()] as EndedWord[];
    this.same('ended', await alreadyEnded(this.#sql, one), model.alreadyEnded(this.db, one));
  }

  async #readHeld(): Promise<void> {
    const words = this.#words();
    const show = (held: ReturnType<typeof model.readHeld>) => [...held.values()].map(shown);
    this.same('held', show(await readHeld(this.#sql, words)), show(model.readHeld(this.db, words)));
  }

  async #cancel(): Promise<void> {
    const tasks = this.#random.some(TASK_STATES, 4).flatMap((state) => this.#random.some(this.#in(state), 1));
    const reason = `because of ${this.doing}`;
    const ids = tasks.map((task) => task.id);
    const results = await cancelTasks(this.#sql, ids, reason);
    this.same(
      'cancelled',
      [...results.values()].map(shown),
      [...model.cancelTasks(this.db, ids, reason).values()].map(shown),
    );
    this.counts.cancelled += results.size;
  }

  // times ----------------------------------------------------------------------------------------------------------------

  /** What time would do to tasks that are due tomorrow. */
  async #fallDue(): Promise<void> {
    const later = [...this.db.waiting].filter((task) => task.dueAtMs! > this.#nowMs);
    for (const task of this.#random.some(later, 3)) {
      task.dueAtMs = ++this.#dueMs;
      const at = new Date(task.dueAtMs).toISOString();
      await this.#sql.unsafe('update baton.waiting set due_at = $2::timestamptz where task_id = $1', [task.id, at]);
    }
  }

  async #promote(): Promise<void> {
    const limit = this.#random.chance(0.3) ? 0 : 1000;
    const { moved, laneIds } = await promoteDue(this.#sql, limit);
    const expected = model.promoteDue(this.db, limit);
    this.same('moved', [moved], [expected.moved]);
    this.same('lanes', laneIds, expected.laneIds);
    // Something is due tomorrow, or now, or never.
    const when = (ms: number | null) => (ms === null ? 'never' : ms === 0 ? 'now' : 'later');
    this.same('next', [when(await nextDueMs(this.#sql))], [when(model.nextDueMs(this.db))]);
    this.counts.promoted += moved;
  }

  /** Times to be started run out, for tasks wherever they are. */
  async #startTooLate(): Promise<void> {
    const tasks = [...this.db.tasks.values()].filter((task) => task.startDeadline);
    const late = this.#random.some(tasks, 4);
    await this.#agedLeases(late.filter((task) => task.lease));
    for (const task of late) task.startDeadline!.expiresAtMs = this.#nowMs - 1000;
    const set = `update baton.start_deadlines set expires_at = clock_timestamp() + $2 * interval '1 ms' where task_id = any($1::bigint[])`;
    await this.#sql.unsafe(set, [numbers(late.map((task) => task.id)), -1000]);
    const swept = await sweepStartDeadlines(this.#sql, 1000);
    const expected = model.sweepStartDeadlines(this.db);
    this.same('ended', swept.ended.map(shown), expected.ended.map(shown));
    this.same('unstarted', swept.unstarted.map(shown), expected.unstarted.map(shown));
    // What is looked at again in a second would be over at some moment between two steps.
    const left = late.filter((task) => task.startDeadline);
    for (const task of left) task.startDeadline!.expiresAtMs = this.#nowMs + DAY_MS;
    await this.#sql.unsafe(set, [numbers(left.map((task) => task.id)), DAY_MS]);
  }

  /** Leases that were granted, and begun, a day ago. */
  async #age(): Promise<void> {
    await this.#agedLeases(this.#random.some(this.#in('leased'), 4));
  }

  async #agedLeases(tasks: readonly model.ModelTask[]): Promise<void> {
    for (const { lease } of tasks) {
      lease!.grantedAtMs -= DAY_MS;
      if (lease!.startedAtMs !== null) lease!.startedAtMs -= DAY_MS;
    }
    await this.#sql.unsafe(
      `update baton.leases set granted_at = granted_at - interval '1 day', started_at = started_at - interval '1 day'
       where task_id = any($1::bigint[])`,
      [numbers(tasks.map((task) => task.id))],
    );
  }

  async #overdue(): Promise<void> {
    const graceMs = 6 * HOUR_MS;
    const overdue = await overdueLeases(this.#sql, graceMs);
    this.same('overdue', overdue.map(shown), model.overdueLeases(this.db, graceMs).map(shown));
  }

  async #pause(): Promise<void> {
    const lane = this.db.lanes.get(this.#random.pick(this.#lanes).id)!;
    lane.paused = !lane.paused && this.#random.chance(0.5);
    await this.#sql.unsafe('update baton.lanes set paused = $2 where id = $1', [lane.id, lane.paused]);
  }

  // sessions -------------------------------------------------------------------------------------------------------------

  async #register(): Promise<void> {
    await this.#registerAs(this.#random.pick(WORKERS), `instance ${this.#registrations.length}`);
  }

  /** One that was there before: the newest of its worker, or an older one, late. */
  async #registerAgain(): Promise<void> {
    const { worker, instance } = this.#random.pick(this.#registrations.slice(-6));
    await this.#registerAs(worker, instance);
  }

  async #registerAs(worker: string, instance: string): Promise<void> {
    const registration = {
      sessionId: this.#ids.next(),
      namespaceId: 1,
      name: worker,
      instanceId: instance,
      capabilities: {},
      serviceUrl: '',
      version: '0',
      metadata: {},
      leaseTtlMs: DAY_MS,
    };
    const given = await registerWorker(this.#sql, registration);
    this.same('registered', [shown(given)], [shown(model.registerWorker(this.db, registration))]);
    if (given.sessionId) this.#registrations.push({ worker, instance, sessionId: given.sessionId });
  }

  async #drainWorker(): Promise<void> {
    const worker = this.#random.pick(WORKERS);
    const drained = await drainWorker(this.#sql, 1, worker, 'test');
    this.same('drained', [shown(drained)], [shown(model.drainWorker(this.db, 1, worker, 'test'))]);
  }

  async #drainSession(): Promise<void> {
    const { id } = this.#random.pick([...this.db.sessions.values()]);
    await drainSession(this.#sql, id, 'its own wish');
    model.drainSession(this.db, id, 'its own wish');
  }

  async #close(): Promise<void> {
    const session = this.#random.pick([...this.#alive(), ...this.#random.some(this.#over(), 1)]);
    if (!session) return;
    this.same(
      'closed',
      [await closeSession(this.#sql, session.id, 'left')],
      [model.closeSession(this.db, session.id, 'left')],
    );
    const [found, expected] = [await readSession(this.#sql, session.id), model.readSession(this.db, session.id)];
    this.same('session', [shown(found)], [shown(expected)]);
  }

  async #expire(): Promise<void> {
    const living = [...this.db.sessions.values()].filter((s) => s.state !== 'closed' && s.expiresAtMs > this.#nowMs);
    const session = this.#random.pick(this.#random.chance(0.7) ? this.#alive() : living);
    if (!session) return;
    session.expiresAtMs = this.#nowMs - 1000;
    const set = `update baton.sessions set expires_at = clock_timestamp() - interval '1 s' where id = $1`;
    await this.#sql.unsafe(set, [session.id]);
  }

  /** Of sessions in every state, sometimes while the sweep is away; numbers sometimes old. */
  async #renew(): Promise<void> {
    await this.#sweptLast(this.#random.chance(0.3) ? HOUR_MS : 0);
    const late = [...this.db.sessions.values()].filter((s) => s.state !== 'closed' && s.expiresAtMs <= this.#nowMs);
    const sessions = new Set(
      [this.#alive(), this.#refused(), late].flatMap((some) => this.#random.some(some, 1 + this.#random.below(2))),
    );
    const batch = [...sessions].map(({ id }) => {
      const number = String(this.#random.chance(0.2) ? this.#random.below(this.#beat) : ++this.#beat);
      return { sessionId: id, leaseTtlMs: DAY_MS, metrics: null, number };
    });
    const renewed = await renewSessions(this.#sql, batch);
    const expected = model.renewSessions(this.db, batch);
    const show = ([id, { renewedAt: _, cancels, ...more }]: [
      string,
      typeof renewed extends Map<string, infer R> ? R : never,
    ]) => `${id} ${shown(more)} ${cancels.map(shown).sort().join()}`;
    this.same('renewed', [...renewed].map(show), [...expected].map(show));
    await this.#sweptLast(0);
  }

  async #markStarted(): Promise<void> {
    const bySession = Map.groupBy(this.#words(), (word) => word.sessionId);
    for (const [sessionId, words] of bySession) {
      const held = words.map(({ taskId, epoch }) => ({ taskId, epoch, started: this.#random.chance(0.8), ranMs: 5 }));
      await markStarted(this.#sql, sessionId, held);
      model.markStarted(this.db, sessionId, held);
    }
  }

  async #compareHeld(): Promise<void> {
    await this.#age();
    const session = this.#random.pick([...this.db.sessions.values()].filter((s) => s.leases.size > 0));
    if (!session) return;
    const words = this.#grants.filter((word) => word.sessionId === session.id);
    const held = this.#random
      .some(words, this.#random.below(4))
      .map(({ taskId, epoch }) => ({ taskId, epoch, started: true, ranMs: 5 }));
    const ago = this.#random.chance(0.2) ? 2 * DAY_MS : 0;
    const at = this.#nowMs - ago;
    const found = await compareHeld(this.#sql, session.id, held, new Date(at).toISOString(), HOUR_MS);
    const expected = model.compareHeld(this.db, session.id, held, String(at), HOUR_MS);
    this.same('unheard', found.unheard.map(shown), expected.unheard.map(shown));
    this.same('lost', found.lost.map(shown), expected.lost.map(shown));
  }

  /** A breaker of a worker opens, lets probes through, closes. */
  async #holdBack(): Promise<void> {
    const worker = this.#random.pick([...this.db.workers.values()]);
    const state = this.#random.pick(['closed', 'closed', 'closed', 'open', 'half_open', 'half_open'] as const);
    this.db.breakers.set(worker.id, { state, probe: null });
    await this.#sql.unsafe(
      `insert into baton.breakers (worker_id, device, state, changed_at, counted_from, reason)
       values ($1, '', $2, clock_timestamp(), clock_timestamp(), 'test')
       on conflict (worker_id, device) do update set state = excluded.state, probe_task_id = null, probe_epoch = null`,
      [worker.id, state],
    );
    await holdBackAsBreakerSays(this.#sql, worker.id);
    model.holdBackAsBreakerSays(this.db, worker.id);
  }

  /** As a master does it: close what is over, then settle what those sessions hold, perhaps not all at once. */
  async #sweep(): Promise<void> {
    // However slow this machine is: there was no outage.
    await this.#sweptLast(0);
    await this.#sweepAndSettle();
  }

  /** Nobody swept for an hour. */
  async #outage(): Promise<void> {
    await this.#sweptLast(HOUR_MS);
    await this.#sweepAndSettle();
    if (this.#random.chance(0.5)) return;
    this.db.resumedAtMs -= DAY_MS;
    await this.#sql.unsafe(
      `update baton.sweeps set resumed_at = resumed_at - interval '1 day' where name = 'sessions'`,
    );
  }

  async #sweptLast(agoMs: number): Promise<void> {
    this.db.sweptAtMs = this.#nowMs - agoMs;
    await this.#sql.unsafe(
      `update baton.sweeps set last_at = clock_timestamp() - $1 * interval '1 ms' where name = 'sessions'`,
      [agoMs],
    );
  }

  async #sweepAndSettle(): Promise<void> {
    const swept = await sweepSessions(this.#sql);
    this.same('swept', swept.map(shown), model.sweepSessions(this.db).map(shown));
    const limit = this.#random.chance(0.5) ? 1 : 1000;
    const ids = swept.map((s) => s.sessionId);
    const held = await leasesOf(this.#sql, ids, limit);
    this.same('leases', held.map(shown), model.leasesOf(this.db, ids, limit).map(shown));
    await this.#settleAs(
      held.map(({ taskId, epoch, sessionId }) => ({
        taskId,
        epoch,
        sessionId,
        attempt: 'lost',
        next: 'backoff',
        delayMs: 0,
        budget: 'crash',
        failure: null,
        ranUs: 0,
      })),
    );
    this.counts.swept += swept.filter((s) => s.now).length;
  }

  // ------------------------------------------------------------------------------------------------------------------------

  #someLanes(): number[] {
    return this.#random.some(this.#lanes, 1 + this.#random.below(LANES)).map((lane) => lane.id);
  }

  #in(state: TaskState): model.ModelTask[] {
    return [...this.db.tasks.values()].filter((task) => task.state === state);
  }

  #alive(): model.ModelSession[] {
    const now = this.#nowMs;
    return [...this.db.sessions.values()].filter((s) => s.state === 'active' && s.expiresAtMs > now && !s.heldBack);
  }

  /** Those that one guard alone keeps from being granted anything, a kind of them at a time. */
  #refused(): model.ModelSession[] {
    const reasons = (s: model.ModelSession) => [s.state !== 'active', s.expiresAtMs <= this.#nowMs, s.heldBack];
    const byOne = [...this.db.sessions.values()].filter((s) => reasons(s).filter(Boolean).length === 1);
    const kinds = [0, 1, 2].map((kind) => byOne.filter((s) => reasons(s)[kind])).filter((kind) => kind.length > 0);
    return kinds.length > 0 ? this.#random.pick(kinds) : [];
  }

  #over(): model.ModelSession[] {
    return [...this.db.sessions.values()].filter((s) => s.state !== 'active' || s.expiresAtMs <= this.#nowMs);
  }

  /** As sets. */
  same(what: string, found: Iterable<unknown>, expected: Iterable<unknown>): void {
    const a = [...found].map(String).sort();
    const b = [...expected].map(String).sort();
    if (a.join('\n') !== b.join('\n')) this.diverge(`found ${what} [${a.join(', ')}], expected [${b.join(', ')}]`);
  }

  diverge(how: string): never {
    throw new LifeCycleDivergence(`${this.doing}: ${how}`);
  }
}

/** An answer, whatever the order of its fields. */
const shown = (value: object | null): string =>
  JSON.stringify(value, (_, part: unknown) =>
    part !== null && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
