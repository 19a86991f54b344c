import { model, type Random } from '@baton/store/testing';
import type { Kernel, Settled, Wait } from './kernel.ts';
import type { Network } from './network.ts';

/** A time at which virtual time begins, ms since the Unix epoch: ids need one. */
export const BEGINNING_MS = Date.UTC(2026, 0, 1);

/** What may become of a statement. Probabilities. */
export interface StatementWeather {
  /** The connection dies before it is carried out, or after: then it has happened, and nobody says so. */
  lostBefore: number;
  lostAfter: number;
  /** It waits for a lock, up to `waitMs`, and is carried out even if whoever sent it is dead by then. */
  wait: number;
  waitMs: number;
}

export const CALM: StatementWeather = { lostBefore: 0, lostAfter: 0, wait: 0, waitMs: 0 };
/** What a statement whose connection died is answered with. */
export const CONNECTION_LOST = 'connection lost';

/** The database behind its connections: statements arrive late, twice over, or not at all; it can be down. */
export class Postgres {
  readonly db: model.ModelDatabase;
  readonly counts = { statements: 0, lostBefore: 0, lostAfter: 0, waited: 0, refused: 0 };
  weather: StatementWeather = CALM;
  up = true;
  readonly #kernel: Kernel;
  readonly #random: Random;
  readonly #network: Network;

  constructor(kernel: Kernel, random: Random, network: Network, without: Iterable<model.Omission>) {
    this.#kernel = kernel;
    this.#random = random;
    this.#network = network;
    this.db = new model.ModelDatabase(() => BEGINNING_MS + kernel.nowMs, without);
  }

  execute<T>(from: string, statement: (db: model.ModelDatabase) => T): Wait<Settled<T>> {
    return (resume) => {
      const { lostBefore, lostAfter, wait, waitMs } = this.weather;
      const random = this.#random;
      const after = (ms: number, act: () => void) => void this.#kernel.at(this.#kernel.nowMs + ms, act);
      const lose = () => after(1, () => resume({ ok: false, reason: CONNECTION_LOST }));
      let takesMs = 0.2 + random.next() * 0.6;
      if (wait > 0 && random.chance(wait)) {
        this.counts.waited++;
        takesMs += random.next() * waitMs;
      }
      if (lostBefore > 0 && random.chance(lostBefore)) {
        this.counts.lostBefore++;
        lose();
        return;
      }
      const reaches = this.#network.reaches(from, 'postgres');
      after(takesMs, () => {
        if (!this.up || !reaches) {
          this.counts.refused++;
          lose();
          return;
        }
        this.counts.statements++;
        const value = statement(this.db);
        if ((lostAfter > 0 && random.chance(lostAfter)) || !this.#network.reaches(from, 'postgres')) {
          this.counts.lostAfter++;
          lose();
        } else after(0.2, () => resume({ ok: true, value }));
      });
    };
  }
}
