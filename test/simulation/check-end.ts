import { budgetOf, POISON_CRASHES } from '@baton/domain';
import type { model } from '@baton/store/testing';
import { BEGINNING_MS } from './postgres.ts';
import { OVERDUE } from './protocol.ts';
import type { Recorder } from './recorder.ts';
import { RETRY } from './settings.ts';
import { textOf, type World } from './world.ts';

const FINAL = new Set(['succeeded', 'failed', 'cancelled']);
/** A code that was told to end has this long; a worker that is not stopped is never later. */
const KILL_MS = 120;

/** Judges what is there in the end: tables, what clients and workers were told, and when code really ran. */
export function checkEnd(world: World, state: { isSettled: boolean; openErrands: number }): void {
  const { recorder, postgres } = world;
  const { db } = postgres;
  const bad = (invariant: number, what: string) => recorder.violate(db, invariant, what);
  for (const step of db.illegal) bad(2, `illegal step: ${step}`);
  if (!state.isSettled) {
    const left = [...db.tasks.values()].filter((task) => task.outcomes.length === 0);
    const names = left.slice(0, 3).map((task) => `${task.id} (${task.state})`);
    bad(16, `not settled: ${left.length} tasks, ${state.openErrands} errands of clients; ${names.join(', ')}`);
  }
  checkOperations(world, bad);
  for (const task of db.tasks.values()) checkTask(task, bad);
  checkEvents(db, bad);
  checkCalls(recorder, db, bad);
  checkEffects(world, bad);
}

type Bad = (invariant: number, what: string) => void;

function checkOperations({ recorder, postgres, acts }: World, bad: Bad): void {
  const { db } = postgres;
  const invoked = new Set<string>();
  const holders = new Map<string, string>();
  for (const operation of recorder.operations) {
    if (operation.type === 'submit') {
      invoked.add(operation.mark!);
      if (operation.outcome !== 'ok') continue;
      if (!db.tasks.has(operation.taskId!)) bad(1, `task ${operation.taskId} was acknowledged and is not there`);
      if (operation.key === null) continue;
      const holder = holders.get(operation.key) ?? operation.taskId!;
      holders.set(operation.key, holder);
      if (holder !== operation.taskId)
        bad(13, `key ${operation.key} was answered with ${holder} and with ${operation.taskId}`);
    } else if (operation.type === 'see_end') {
      const task = db.tasks.get(operation.taskId)!;
      if (task.state !== operation.state)
        bad(2, `task ${task.id} was seen ${operation.state} and is ${task.state} in the end`);
    }
  }
  const keys = new Map<string, string>();
  for (const task of db.tasks.values()) {
    const { mark } = acts.get(task.id)!;
    if (!invoked.has(mark)) bad(1, `task ${task.id} was never asked for`);
    if (task.idempotencyKey === null) continue;
    const other = keys.get(task.idempotencyKey);
    if (other !== undefined) bad(13, `key ${task.idempotencyKey} has made ${other} and ${task.id}`);
    keys.set(task.idempotencyKey, task.id);
  }
}

function checkTask(task: model.ModelTask, bad: Bad): void {
  const { id, attempts, outcomes } = task;
  if (outcomes.length > 1) bad(2, `task ${id} has ${outcomes.length} ends`);
  let number = 0;
  let epoch = 0;
  let application = 0;
  let infra = 0;
  let crashes = 0;
  let ooms = 0;
  attempts.forEach((attempt, i) => {
    if (attempt.epoch <= epoch) bad(3, `epochs of ${id} do not rise: ${epoch}, ${attempt.epoch}`);
    epoch = attempt.epoch;
    if (attempt.attempt !== number + 1) bad(3, `attempt ${attempt.attempt} of ${id} comes after ${number}`);
    if (attempt.state !== 'returned') number = attempt.attempt;
    const { failure } = attempt;
    if (failure && attempt.state !== 'returned') {
      const budget = budgetOf(failure.type);
      if (budget === 'application') application++;
      if (budget === 'infra') infra++;
      if (budget === 'crash') crashes++;
      if (budget === 'memory') ooms++;
      if (failure.nonRetryable && i < attempts.length - 1) bad(9, `${id} was tried again after a final failure`);
    }
    const before = attempts[i - 1];
    if (before && attempt.grantedAtMs < before.endedAtMs) bad(4, `two leases of ${id} at once`);
    if (before && attempt.grantedAtMs - before.endedAtMs < (before.retryDelayMs ?? 0))
      bad(9, `${id} was granted ${before.retryDelayMs! - attempt.grantedAtMs + before.endedAtMs} ms too early`);
    if (failure && failure.retryAfterMs === undefined && attempt.state === 'failed' && attempt.retryDelayMs !== null) {
      const count = { application, infra, crash: crashes, memory: ooms }[budgetOf(failure.type)];
      const least = Math.min(RETRY.maxDelayMs, RETRY.initialDelayMs * RETRY.factor ** (count - 1)) * (1 - RETRY.jitter);
      if (attempt.retryDelayMs < Math.floor(least))
        bad(9, `${id} waits ${attempt.retryDelayMs} ms, less than ${least}`);
    }
  });
  if (application > task.maxAttempts) bad(9, `${id} was tried ${application} times of ${task.maxAttempts}`);
  if (infra > task.maxAttempts) bad(9, `${id} failed ${infra} times for the machine's sake`);
  if (crashes > POISON_CRASHES) bad(9, `${id} took ${crashes} workers with it`);
  if (ooms > 2) bad(9, `${id} ran out of memory ${ooms} times`);
  const outcome = outcomes.at(-1);
  if (!outcome) return;
  const { output } = outcome;
  if (output && !textOf(output).startsWith(`${id} ${outcome.epoch} `))
    bad(5, `${id} ended with epoch ${outcome.epoch}, and what it holds is of another: ${textOf(output)}`);
  if (outcome.state === 'succeeded' && attempts.at(-1)?.state !== 'succeeded')
    bad(2, `${id} succeeded, and its last attempt did not`);
}

/** A task's events tell its life: submitted once, leased as often as there are attempts, one end, which is the last. */
function checkEvents(db: model.ModelDatabase, bad: Bad): void {
  const seen = new Map<string, { submitted: number; leased: number; ends: number; last: string }>();
  const types = ['', 'submitted', 'ready', 'leased', 'backoff', 'succeeded', 'failed', 'cancelled', 'released'];
  for (const { type, taskId } of db.events) {
    const name = types[type];
    if (taskId === '0' || name === undefined) continue;
    const task = seen.get(taskId) ?? { submitted: 0, leased: 0, ends: 0, last: '' };
    seen.set(taskId, task);
    if (name === 'submitted') task.submitted++;
    if (name === 'leased') task.leased++;
    if (FINAL.has(name)) task.ends++;
    else if (task.ends > 0) bad(2, `event ${name} of ${taskId} after its end`);
    task.last = name;
  }
  for (const task of db.tasks.values()) {
    const events = seen.get(task.id);
    const leases = task.attempts.length + Number(task.lease !== null);
    if (events?.submitted !== 1) bad(7, `${task.id} was submitted ${events?.submitted} times`);
    if (events?.leased !== leases) bad(7, `${task.id} has ${leases} leases and ${events?.leased} events of them`);
    if (events?.ends !== Number(FINAL.has(task.state))) bad(2, `${task.id} has ${events?.ends} events of an end`);
    if (FINAL.has(task.state) && events?.last !== task.state)
      bad(2, `${task.id} is ${task.state}; its last event: ${events?.last}`);
  }
}

/** What a worker was told of a result is what became of that very lease. */
function checkCalls(recorder: Recorder, db: model.ModelDatabase, bad: Bad): void {
  for (const call of recorder.calls) {
    if (call.type !== 'complete' || call.outcome === 'info') continue;
    const { taskId, epoch, sessionId, reported } = call;
    const attempt = db.tasks.get(taskId)!.attempts.find((a) => a.epoch === epoch && a.sessionId === sessionId);
    const name = `${reported} of ${taskId}, epoch ${epoch},`;
    const stands = attempt?.state === reported || (attempt?.state === 'cancelled' && reported !== 'succeeded');
    const takenBack = attempt?.state === 'returned' && attempt.failure !== null;
    if (call.outcome === 'ok' && !stands) bad(5, `${name} was taken; the attempt is ${attempt?.state ?? 'not there'}`);
    if (call.reason === 'LEASE_LOST' && stands && !takenBack)
      bad(5, `${name} stands, and was answered with LEASE_LOST`);
  }
}

/**
 * Code of two epochs of a task at once: only after the first one's session was over. And a worker that does not stand still has
 * ended its code by then, by its own clock.
 */
function checkEffects({ recorder, postgres }: World, bad: Bad): void {
  const { db } = postgres;
  const at = (ms: number) => Math.round(ms - BEGINNING_MS);
  recorder.effects.forEach(({ taskId, epoch, sessionId, endedAtMs }, i) => {
    const untilMs = (endedAtMs ?? db.now()) - KILL_MS;
    const expiryMs = db.sessions.get(sessionId)!.expiresAtMs;
    const { attempts } = db.tasks.get(taskId)!;
    const next = attempts.find((a) => a.epoch > epoch);
    // Its own time was over, and its worker, which stood still, did not say so: a master did.
    const isOverdue = attempts.some((a) => a.epoch === epoch && a.failure?.message === OVERDUE);
    const name = `code of ${taskId}, epoch ${epoch}, ran until ${at(untilMs + KILL_MS)}`;
    if (next && !isOverdue && next.grantedAtMs < untilMs && next.grantedAtMs < expiryMs)
      bad(14, `${name}; epoch ${next.epoch} was granted at ${at(next.grantedAtMs)}, before ${at(expiryMs)}`);
    // The worker lets go half a second before its time is over, unless it stands still.
    const stoodStill = recorder.machines[i]!.stops.some(
      (stop) => BEGINNING_MS + stop.toMs > expiryMs - 1_000 && BEGINNING_MS + stop.fromMs < untilMs,
    );
    if (untilMs > expiryMs && !stoodStill) bad(14, `${name}; its session was over at ${at(expiryMs)}`);
  });
}
