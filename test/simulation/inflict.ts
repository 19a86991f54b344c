import type { FaultKind, PlannedFault } from './faults.ts';
import { Machine } from './kernel.ts';
import { Master } from './master.ts';
import { FAIR } from './network.ts';
import { BEGINNING_MS, CALM } from './postgres.ts';
import { WorkerProcess } from './worker.ts';
import type { World } from './world.ts';

/** A worker's place: whatever process is there now, started again when it ends. Old ones may live on beside it. */
interface WorkerPlace {
  readonly name: string;
  readonly laneIds: number[];
  readonly slots: number;
  readonly ownProcesses: boolean;
  lives: number;
  processes: WorkerProcess[];
}

/** Starts masters and workers, does to them what the plan says, starts again what died, and heals all in the end. */
export class Inflict {
  readonly counts = { workerLives: 0, masterLives: 0 };
  readonly #world: World;
  readonly #workers: WorkerPlace[];
  #healed = false;
  /** Ends what lasts; each may be called twice. */
  readonly #ends: (() => void)[] = [];

  constructor(world: World, abilities: readonly number[][]) {
    this.#world = world;
    const { random } = world;
    for (const place of world.masterPlaces) this.#startMaster(place);
    this.#workers = abilities.map((laneIds, n) => ({
      name: `worker${n + 1}`,
      laneIds: [...laneIds],
      slots: 2 + random.below(3),
      ownProcesses: random.chance(0.6),
      lives: 0,
      processes: [],
    }));
    for (const worker of this.#workers) world.kernel.at(random.next() * 300, () => this.#startWorker(worker));
  }

  #startMaster(place: string): void {
    const { kernel, masters, random } = this.#world;
    if (masters.get(place)?.machine.alive) return;
    this.counts.masterLives++;
    const machine = new Machine(kernel, place);
    masters.set(place, { machine, service: new Master(this.#world, place, machine, (random.next() - 0.5) * 1_000) });
  }

  #startWorker(place: WorkerPlace): void {
    const { kernel, random } = this.#world;
    this.counts.workerLives++;
    const startAgain = () =>
      void kernel.at(kernel.nowMs + 50 + random.next() * (this.#healed ? 300 : 2_000), () => {
        if (!place.processes.some((p) => p.machine.alive)) this.#startWorker(place);
      });
    place.processes = place.processes.filter((p) => p.machine.alive);
    const process = new WorkerProcess(this.#world, place, ++place.lives, startAgain);
    process.machine.onDeath.add(startAgain);
    place.processes.push(process);
  }

  begin(fault: PlannedFault): void {
    const { kernel, recorder } = this.#world;
    const { kind, lastsMs, target } = fault;
    const fromMs = BEGINNING_MS + kernel.nowMs;
    recorder.trace?.(fromMs, `FAULT ${kind} ${target} for ${Math.round(lastsMs)} ms`);
    const end = this.#inflict(fault);
    if (end) {
      this.#ends.push(end);
      kernel.at(kernel.nowMs + lastsMs, () => {
        recorder.trace?.(BEGINNING_MS + kernel.nowMs, `end of ${kind} ${target}`);
        end();
      });
    }
    recorder.faults.push({ kind, atMs: fromMs, untilMs: end ? fromMs + lastsMs : null });
  }

  /** @returns what ends it, if it lasts */
  #inflict({ kind, target, lastsMs, badness }: PlannedFault): (() => void) | null {
    const { kernel, network, postgres, masters, masterPlaces } = this.#world;
    const worker = this.#workers[target % this.#workers.length]!;
    const process = worker.processes.at(-1);
    const masterPlace = masterPlaces[target % masterPlaces.length]!;
    const master = masters.get(masterPlace)!;
    const acts: Record<FaultKind, () => (() => void) | null> = {
      kill_worker: () => {
        for (const each of worker.processes) each.kill();
        return null;
      },
      stop_worker: () => {
        process?.machine.stop();
        return () => process?.machine.goOn();
      },
      drain_worker: () => {
        process?.machine.do(() => process.drain(1_000));
        // A rolling restart: the next one is there before this one has gone.
        if (badness < 0.5) kernel.at(kernel.nowMs + badness * 300, () => this.#startWorker(worker));
        return null;
      },
      second_worker: () => {
        this.#startWorker(worker);
        return null;
      },
      kill_master: () => {
        master.machine.die();
        kernel.at(kernel.nowMs + Math.min(lastsMs, 4_000), () => this.#startMaster(masterPlace));
        return null;
      },
      stop_master: () => {
        master.machine.stop();
        return () => master.machine.goOn();
      },
      cut_worker: () => {
        const from = badness < 0.5 ? '*' : masterPlace;
        network.cut(worker.name, from);
        return () => network.mend(worker.name, from);
      },
      cut_master_from_postgres: () => {
        network.cut(masterPlace, 'postgres');
        return () => network.mend(masterPlace, 'postgres');
      },
      postgres_down: () => {
        postgres.up = false;
        return () => {
          postgres.up = true;
        };
      },
      bad_network: () => {
        network.weather = {
          loss: badness * 0.15,
          duplicate: badness * 0.1,
          slow: badness * 0.2,
          slowMs: 200 + badness * 5_000,
        };
        return () => {
          network.weather = FAIR;
        };
      },
      bad_connections: () => {
        postgres.weather = {
          lostBefore: badness * 0.1,
          lostAfter: badness * 0.1,
          wait: badness * 0.15,
          waitMs: 200 + badness * 6_000,
        };
        return () => {
          postgres.weather = CALM;
        };
      },
      replay: () => {
        network.replay(5 + Math.floor(badness * 25));
        return null;
      },
      pause_lane: () => {
        const lane = postgres.db.lanes.get(1 + (target % 3))!;
        lane.paused = true;
        return () => {
          lane.paused = false;
        };
      },
    };
    return acts[kind]();
  }

  healAll(): void {
    this.#healed = true;
    for (const end of this.#ends) end();
    this.#world.network.mendAll();
    for (const place of this.#world.masterPlaces) this.#startMaster(place);
  }
}
