import type { ClientOperation } from '@baton/testkit/history';
import type { Machine, Settled, Steps } from './kernel.ts';
import { until } from './kernel.ts';
import type { Call } from './network.ts';
import { BEGINNING_MS } from './postgres.ts';
import type { MasterApi, Request } from './protocol.ts';
import type { Recorded } from './recorder.ts';
import { SETTINGS } from './settings.ts';
import type { World } from './world.ts';

/** What a client does with one task. */
export interface Errand {
  request: Request;
  atMs: number;
  /** After it was acknowledged; null: it is not cancelled. */
  cancelAfterMs: number | null;
  /** After it was acknowledged, how it stands is looked at. */
  readAfterMs: number | null;
}

const CALL_MS = 1_500;

/** Submits, cancels and looks, and tries again what it does not know the end of, where that is safe. */
export class Client {
  /** Errands that are not done. */
  open = 0;
  readonly #world: World;
  readonly #machine: Machine;

  constructor(world: World, machine: Machine) {
    this.#world = world;
    this.#machine = machine;
  }

  run(errand: Errand): void {
    this.open++;
    this.#machine.after(errand.atMs, () => this.#machine.start(this.#do(errand), () => this.open--));
  }

  *#do({ request, cancelAfterMs, readAfterMs }: Errand): Steps<void> {
    const taskId = yield* this.#submit(request);
    if (taskId === null) return;
    if (cancelAfterMs !== null) {
      yield* until(this.#machine.sleep(cancelAfterMs));
      yield* this.#cancel(taskId);
    }
    if (readAfterMs !== null) {
      yield* until(this.#machine.sleep(readAfterMs));
      yield* this.#read(taskId);
    }
  }

  *#submit(asked: Request): Steps<string | null> {
    const { recorder } = this.#world;
    for (let request = asked; ; ) {
      const operation: Recorded<Extract<ClientOperation, { type: 'submit' }>> = {
        ...this.#begin(),
        type: 'submit',
        namespace: 'default',
        kind: `lane ${request.laneId}`,
        key: request.key,
        body: String(request.body),
        mark: request.mark,
      };
      recorder.operations.push(operation);
      const end = yield* this.#call((master) => master.submit(request), request.key === null);
      this.#note(operation, end);
      if (end.ok) {
        operation.taskId = end.value.taskId;
        return end.value.taskId;
      }
      if (operation.outcome === 'fail') return null;
      yield* this.#pause();
      // Without a key a repetition may make a second task, and is one of its own.
      if (request.key === null) request = { ...request, mark: `${request.mark}+` };
    }
  }

  *#cancel(taskId: string): Steps<void> {
    const { recorder } = this.#world;
    for (;;) {
      const operation: Recorded<Extract<ClientOperation, { type: 'cancel' }>> = {
        ...this.#begin(),
        type: 'cancel',
        taskId,
      };
      recorder.operations.push(operation);
      const end = yield* this.#call((master) => master.cancel(taskId, 'so it was drawn'));
      this.#note(operation, end);
      if (end.ok) {
        operation.answered = end.value === 'leased' ? 'asked' : 'cancelled';
        recorder.cancelAcknowledged.add(taskId);
        recorder.trace?.(this.#nowMs, `cancel of ${taskId} is acknowledged: ${operation.answered}`);
      }
      if (operation.outcome !== 'info') return;
      yield* this.#pause();
    }
  }

  *#read(taskId: string): Steps<void> {
    for (let tries = 0; tries < 3; tries++) {
      const begun = this.#begin();
      const end = yield* this.#call((master) => master.read(taskId));
      if (end.ok) {
        const state = end.value;
        if (state === 'succeeded' || state === 'failed' || state === 'cancelled') {
          const operation: Recorded<ClientOperation> = { ...begun, type: 'see_end', taskId, state };
          this.#note(operation, end);
          this.#world.recorder.operations.push(operation);
        }
        return;
      }
      yield* this.#pause();
    }
  }

  get #nowMs(): number {
    return BEGINNING_MS + this.#world.kernel.nowMs;
  }

  #begin() {
    return { by: this.#machine.name, invokedAtMs: this.#nowMs, answeredAtMs: null, outcome: 'info' as const };
  }

  #note(operation: Recorded<ClientOperation>, end: Settled<unknown>): void {
    if (end.ok) operation.outcome = 'ok';
    else if (/^(TASK_|IDEMPOTENCY_CONFLICT)/.test(end.reason)) {
      operation.outcome = 'fail';
      operation.reason = end.reason;
    } else {
      operation.outcome = 'info';
      operation.code = end.reason;
      return;
    }
    operation.answeredAtMs = this.#nowMs;
  }

  *#call<T>(handle: (master: MasterApi, call: Call) => Steps<T>, once = false): Steps<Settled<T>> {
    const { network, masters, masterPlaces, random } = this.#world;
    const to = random.pick(masterPlaces);
    const { name } = this.#machine;
    return yield* until(network.call(this.#machine, name, to, () => masters.get(to), handle, CALL_MS, { once }));
  }

  *#pause(): Steps<void> {
    yield* until(this.#machine.sleep(this.#world.random.next() * SETTINGS.sweepIntervalMs));
  }
}
