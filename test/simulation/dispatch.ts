import type { Grant, Want } from '@baton/store';
import type { Machine, Steps, Timer, Wait } from './kernel.ts';
import type { Call } from './network.ts';

/** A grant, and when the claim for it was sent: old ones may have been taken back. */
export interface Assignment extends Grant {
  claimedMs: number;
}

interface Offer {
  sessionId: string;
  laneIds: readonly number[];
  number: number;
  free: number;
  /** Answer after the next claim, even with nothing. */
  urgent: boolean;
  /** A statement that may grant to it is under way. */
  asked: boolean;
  resolve(grants: Assignment[]): void;
}

/** Offers that wait for tasks about to be stored, as the engine's HandOver. */
export interface HandOver {
  readonly takers: readonly (string | null)[];
  end(grants: readonly Assignment[]): void;
}

/** Brings waiting offers and ready tasks together, as the engine's dispatcher does. All of it is in the master's memory. */
export class Dispatch {
  readonly #machine: Machine;
  readonly #claim: (laneIds: number[], wants: Want[]) => Steps<Grant[]>;
  readonly #laneIds: readonly number[];
  readonly #armed = new Map<number, number>();
  readonly #offers = new Map<string, Offer>();
  /** Granted to a session whose offer had gone: for its next call, if that comes soon. */
  readonly #undelivered = new Map<string, Assignment[]>();
  readonly #keepMs: number;
  readonly #onUnsent: (grants: Assignment[]) => void;
  #armings = 0;
  #pumping = false;
  #again = false;

  constructor(
    machine: Machine,
    claim: (laneIds: number[], wants: Want[]) => Steps<Grant[]>,
    laneIds: readonly number[],
    keepMs: number,
    onUnsent: (grants: Assignment[]) => void,
  ) {
    this.#keepMs = keepMs;
    this.#onUnsent = onUnsent;
    this.#machine = machine;
    this.#claim = claim;
    this.#laneIds = laneIds;
  }

  offer(
    sessionId: string,
    laneIds: readonly number[],
    number: number,
    free: number,
    waitMs: number,
    call: Call,
  ): Wait<Assignment[]> {
    return (resume) => {
      const kept = this.fresh(this.#undelivered.get(sessionId) ?? []);
      this.#undelivered.delete(sessionId);
      if (kept.length > 0) {
        resume(kept);
        return;
      }
      const older = this.#offers.get(sessionId);
      if (older && older.number > number) {
        resume([]);
        return;
      }
      if (older) this.#end(older, []);
      if (call.aborted || free <= 0) {
        resume([]);
        return;
      }
      let timer: Timer | undefined;
      const offer: Offer = {
        sessionId,
        laneIds,
        number,
        free,
        urgent: waitMs <= 0,
        asked: false,
        resolve: (grants) => {
          if (timer) timer.act = null;
          call.onAbort = null;
          resume(grants);
        },
      };
      const end = () => this.#end(offer, []);
      if (waitMs > 0) timer = this.#machine.after(waitMs, end);
      call.onAbort = () => this.#machine.do(end);
      this.#offers.set(sessionId, offer);
      this.#pump();
    };
  }

  release(sessionId: string): void {
    const offer = this.#offers.get(sessionId);
    if (offer) this.#end(offer, []);
  }

  /** For the session's next call: its answer could not be sent. */
  keep(sessionId: string, grants: Assignment[]): void {
    if (grants.length === 0) return;
    this.#undelivered.set(sessionId, [...(this.#undelivered.get(sessionId) ?? []), ...grants]);
    if (this.#keepMs === Number.POSITIVE_INFINITY) return;
    this.#machine.after(this.#keepMs, () => {
      const kept = this.#undelivered.get(sessionId);
      if (kept) this.#undelivered.set(sessionId, this.fresh(kept));
    });
  }

  /** Without those that the session may have disowned by now: these go back, for nobody hears of them. */
  fresh(grants: Assignment[]): Assignment[] {
    const isFresh = ({ claimedMs }: Assignment) => this.#machine.kernel.nowMs < claimedMs + this.#keepMs;
    const unsent = grants.filter((grant) => !isFresh(grant));
    if (unsent.length > 0) this.#onUnsent(unsent);
    return grants.filter(isFresh);
  }

  /** What is kept for a session, or these leases of it, goes back. */
  discard(sessionId: string, leases?: readonly { taskId: string; epoch: number }[]): void {
    const kept = this.#undelivered.get(sessionId);
    if (!kept) return;
    const isGone = (grant: Grant) => leases?.some((l) => l.taskId === grant.taskId && l.epoch === grant.epoch) ?? true;
    this.#undelivered.set(
      sessionId,
      kept.filter((grant) => !isGone(grant)),
    );
  }

  arm(laneId: number): void {
    this.#armed.set(laneId, ++this.#armings);
    this.#pump();
  }

  armAll(): void {
    for (const laneId of this.#laneIds) if (!this.#armed.has(laneId)) this.#armed.set(laneId, ++this.#armings);
    if (this.#offers.size > 0) this.#pump();
  }

  /** @param laneIds of the tasks; null: not this one */
  reserve(laneIds: readonly (number | null)[]): HandOver | null {
    const left = new Map<Offer, number>();
    const takers = laneIds.map((laneId) => {
      if (laneId === null || this.#armed.has(laneId)) return null;
      for (const offer of this.#offers.values()) {
        const free = left.get(offer) ?? offer.free;
        if (offer.asked || offer.urgent || free <= 0 || !offer.laneIds.includes(laneId)) continue;
        left.set(offer, free - 1);
        return offer.sessionId;
      }
      return null;
    });
    const asked = [...left.keys()];
    if (asked.length === 0) return null;
    for (const offer of asked) offer.asked = true;
    return {
      takers,
      end: (grants) => {
        for (const offer of asked) offer.asked = false;
        this.#deliver(asked, grants);
        if (this.#armed.size > 0) this.#pump();
      },
    };
  }

  #deliver(waiting: readonly Offer[], grants: readonly Assignment[]): void {
    for (const offer of waiting) {
      const mine = grants.filter((grant) => grant.sessionId === offer.sessionId);
      if (this.#offers.get(offer.sessionId) === offer) {
        if (mine.length > 0 || offer.urgent) this.#end(offer, mine);
      } else this.keep(offer.sessionId, mine);
    }
  }

  #end(offer: Offer, grants: Assignment[]): void {
    if (this.#offers.get(offer.sessionId) === offer) this.#offers.delete(offer.sessionId);
    offer.resolve(grants);
  }

  #pump(): void {
    this.#again = true;
    if (this.#pumping) return;
    this.#pumping = true;
    this.#machine.start(this.#rounds(), (end) => {
      this.#pumping = false;
      if (!end.ok) this.#machine.after(200, () => this.#pump());
      else if (this.#again) this.#pump();
    });
  }

  *#rounds(): Steps<void> {
    while (this.#again) {
      this.#again = false;
      const groups = new Map<string, { laneIds: number[]; offers: Offer[] }>();
      for (const offer of this.#offers.values()) {
        if (offer.asked) continue;
        const laneIds = offer.laneIds.filter((id) => this.#armed.has(id));
        if (laneIds.length === 0) {
          if (offer.urgent) this.#end(offer, []);
          continue;
        }
        const signature = laneIds.join();
        const group = groups.get(signature);
        if (group) group.offers.push(offer);
        else groups.set(signature, { laneIds, offers: [offer] });
      }
      for (const { laneIds, offers } of groups.values()) yield* this.#serve(laneIds, offers);
    }
  }

  *#serve(laneIds: number[], waiting: Offer[]): Steps<void> {
    const wants: Want[] = [];
    const claiming: Offer[] = [];
    let total = 0;
    for (const offer of waiting) {
      // An offer may have ended, or be asked for, while an earlier group was served.
      if (this.#offers.get(offer.sessionId) !== offer || offer.asked) continue;
      claiming.push(offer);
      wants.push({ sessionId: offer.sessionId, count: offer.free });
      total += offer.free;
    }
    if (total === 0) return;
    const before = this.#armings;
    const claimedMs = this.#machine.kernel.nowMs;
    for (const offer of claiming) offer.asked = true;
    let grants: Assignment[];
    try {
      grants = (yield* this.#claim(laneIds, wants)).map((grant): Assignment => ({ ...grant, claimedMs }));
    } finally {
      for (const offer of claiming) offer.asked = false;
    }
    if (grants.length < total)
      for (const laneId of laneIds) if ((this.#armed.get(laneId) ?? 0) <= before) this.#armed.delete(laneId);
    this.#deliver(claiming, grants);
  }
}
