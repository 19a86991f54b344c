import { Machine, type Settled, type Steps, until } from './kernel.ts';
import { ABANDONED } from './network.ts';
import { SESSION_LOST } from './protocol.ts';
import { SETTINGS } from './settings.ts';
import { type Connection, type WorkerHome, type WorkerOptions, WorkerSession } from './worker-session.ts';
import type { World } from './world.ts';

/** One process of a worker: registers, lives through sessions one after the other, until it is told to end or killed. */
export class WorkerProcess implements WorkerHome {
  readonly world: World;
  readonly options: WorkerOptions;
  readonly machine: Machine;
  /** Told when the process has ended by itself. */
  readonly onExit: () => void;
  session: WorkerSession | null = null;
  #ending = false;
  #instances = 0;

  constructor(world: World, options: WorkerOptions, life: number, onExit: () => void) {
    this.world = world;
    this.options = options;
    this.onExit = onExit;
    this.machine = new Machine(world.kernel, `${options.name}#${life}`);
    this.machine.start(this.#live());
  }

  /** A connection of its own: goes to one master until that fails. */
  connection(): Connection {
    const { network, random, masterPlaces, masters } = this.world;
    let place = random.pick(masterPlaces);
    return (handle, timeoutMs, abandon) => (resume) => {
      const to = place;
      const { name } = this.options;
      const more = abandon ? { abandon } : {};
      const call = network.call(this.machine, name, to, () => masters.get(to), handle, timeoutMs, more);
      call((end) => {
        if (!end.ok && end.reason !== SESSION_LOST && end.reason !== ABANDONED) place = random.pick(masterPlaces);
        resume(end);
      });
    };
  }

  get now(): number {
    return this.world.kernel.nowMs;
  }

  /** Takes no new work, finishes what runs or hands it back, leaves, ends. */
  drain(graceMs: number): void {
    if (this.#ending || !this.machine.alive) return;
    this.#ending = true;
    const { session } = this;
    this.machine.start(session ? session.drain(graceMs) : (function* () {})(), () => {
      this.machine.die();
      this.onExit();
    });
  }

  kill(): void {
    this.machine.die();
  }

  *#live(): Steps<void> {
    let givenUp: WorkerSession | null = null;
    const call = this.connection();
    const { random } = this.world;
    for (;;) {
      let instance = this.#newInstance();
      for (let failures = 1; ; failures++) {
        const sentAtMs = this.now;
        const { name, laneIds } = this.options;
        const end: Settled<{ sessionId: string }> = yield* until(
          call((master) => master.register(name, instance, laneIds), SETTINGS.answerTimeoutMs),
        );
        if (this.#ending) return;
        if (end.ok) {
          this.session = new WorkerSession(this, end.value.sessionId, sentAtMs);
          break;
        }
        if (end.reason === SESSION_LOST) instance = this.#newInstance();
        yield* until(this.machine.sleep(random.next() * Math.min(2_000, 100 * 2 ** Math.min(failures, 10))));
      }
      if (givenUp) this.machine.start(givenUp.makeGood());
      const silent: boolean = yield* until(this.session.lost);
      if (this.#ending) return;
      givenUp = silent ? this.session : null;
      this.session = null;
    }
  }

  #newInstance(): string {
    return `${this.machine.name}.${++this.#instances}`;
  }
}
