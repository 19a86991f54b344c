import {
  type HeartbeatRequest,
  HeartbeatRequestSchema,
  type HeartbeatResponse,
  type HeldLease,
  type Orders,
} from '@baton/contract';
import type { LoadMeter } from '@baton/hardware';
import { create } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { fullJitter } from '../calls/backoff.ts';
import { describe, sessionRefusal } from '../calls/refusal.ts';
import { monotonicMs } from '../clock.ts';
import type { MachineHealthInit } from './health-message.ts';
import type { SharedState } from './shared-state.ts';
import { type Report, SignReport } from './sign-report.ts';

/** A session as the heartbeat sees it. Times are milliseconds; `renewedAtMs` is of `monotonicMs`. */
export interface HeartbeatSession {
  readonly sessionId: string;
  readonly leaseTtlMs: number;
  readonly intervalMs: number;
  /** When the request was sent that the lease time counts from. */
  readonly renewedAtMs: number;
}

/** What the heartbeat tells the rest of the worker. Each names the session that it is about. */
export type HeartbeatEvent = { readonly sessionId: string } & (
  | { readonly type: 'orders'; readonly orders: Orders }
  /** All devices that no task may use now, by the master's word; told when they change, and first of all. */
  | { readonly type: 'quarantine'; readonly devices: readonly string[] }
  /** Held here, but another's by now. */
  | { readonly type: 'lost'; readonly leases: HeldLease[] }
  /** The master wants everything held; answered by `sendHeld`. */
  | { readonly type: 'held-wanted' }
  | {
      readonly type: 'failed';
      readonly failures: number;
      readonly retryInMs: number;
      readonly reason: string;
      /** Of the master. */
      readonly url: string;
      /** The next ones go to another master. */
      readonly left: boolean;
    }
  /** Accepted again, after it had failed. */
  | { readonly type: 'recovered'; readonly failures: number }
  /** The master does not know the session any more. */
  | { readonly type: 'refused'; readonly reason: string }
  /** No heartbeat was accepted for so long that the leases may be another's by now. */
  | { readonly type: 'expired'; readonly silentMs: number }
);

export interface HeartbeatLoopOptions {
  readonly namespace: string;
  readonly call: (request: HeartbeatRequest, timeoutMs: number) => Promise<HeartbeatResponse>;
  /** How many there are, and at which the next call is made: at another after one that came to nothing. */
  readonly masters: { readonly count: number; readonly url: string };
  /** Cuts the connection, after an answer did not come. */
  readonly reset: () => void;
  readonly shared: SharedState;
  readonly load: LoadMeter;
  /** How often the main loop stamps the shared state. */
  readonly stampEveryMs: number;
  readonly emit: (event: HeartbeatEvent) => void;
}

interface Current extends HeartbeatSession {
  number: bigint;
  ttlMs: number;
  renewedMs: number;
  failures: number;
  calling: boolean;
  /** To be sent as soon as the call under way has ended. */
  held: HeldLease[] | undefined;
  /** A beat was asked for while another was under way. */
  again: boolean;
  /** As told last. */
  quarantined: string | undefined;
  beatTimer: NodeJS.Timeout | undefined;
  expiryTimer: NodeJS.Timeout | undefined;
}

/**
 * Renews one session at a time and watches its own clock: lease time counts from the SENDING of the last heartbeat that
 * was accepted, so that the worker lets go before the master gives the work to another.
 */
export class HeartbeatLoop {
  readonly #options: HeartbeatLoopOptions;
  readonly #signs: SignReport;
  #current: Current | undefined;
  #health: { readonly message: MachineHealthInit; readonly judgedAtMs: number } | undefined;

  constructor(options: HeartbeatLoopOptions) {
    this.#options = options;
    this.#signs = new SignReport(options.shared.signs);
  }

  begin(session: HeartbeatSession): void {
    this.end();
    const current: Current = {
      ...session,
      // Above the numbers of an earlier thread of the same session.
      number: BigInt(Date.now()) * 1000n,
      ttlMs: session.leaseTtlMs,
      renewedMs: session.renewedAtMs,
      failures: 0,
      calling: false,
      held: undefined,
      again: false,
      quarantined: undefined,
      beatTimer: undefined,
      expiryTimer: undefined,
    };
    this.#current = current;
    this.#armExpiry(current);
    // Somewhere within the first interval: workers that registered together do not beat together.
    this.#beatAfter(current, session.intervalMs * (0.5 + Math.random() / 2));
  }

  end(): void {
    clearTimeout(this.#current?.beatTimer);
    clearTimeout(this.#current?.expiryTimer);
    this.#current = undefined;
  }

  /** Everything held, for a master that asked: sent at once. */
  sendHeld(sessionId: string, held: HeldLease[]): void {
    const current = this.#current;
    if (current?.sessionId === sessionId) {
      current.held = held;
      this.#beatNow(current);
    }
  }

  /** What a running attempt says of its progress: goes with the next heartbeat. */
  say(taskId: string, epoch: number, message: string): void {
    this.#signs.say(taskId, epoch, message);
  }

  /** How the machine feels: goes with each heartbeat from now on, with its age. A late one delays none. */
  noteHealth(message: MachineHealthInit, judgedAtMs: number): void {
    this.#health = { message, judgedAtMs };
  }

  /** Tells the master at once what changed (that the worker drains). */
  beat(): void {
    if (this.#current !== undefined) {
      this.#beatNow(this.#current);
    }
  }

  #beatAfter(current: Current, delayMs: number): void {
    clearTimeout(current.beatTimer);
    current.beatTimer = setTimeout(() => this.#beatNow(current), delayMs);
  }

  #beatNow(current: Current): void {
    if (this.#current !== current) {
      return;
    }
    if (current.calling) {
      current.again = true;
    } else {
      void this.#beat(current);
    }
  }

  async #beat(current: Current): Promise<void> {
    const { emit } = this.#options;
    current.calling = true;
    clearTimeout(current.beatTimer);
    const sentMs = monotonicMs();
    const { url } = this.#options.masters;
    const held = current.held;
    current.held = undefined;
    current.again = false;
    try {
      const report = this.#signs.take(sentMs);
      const request = this.#request(current, held, report);
      const response = await this.#options.call(request, this.#timeoutMs(current, sentMs));
      report.accepted();
      current.calling = false;
      if (this.#current !== current) {
        return;
      }
      if (current.failures > 0) {
        emit({ type: 'recovered', sessionId: current.sessionId, failures: current.failures });
      }
      current.failures = 0;
      current.renewedMs = sentMs;
      current.ttlMs = response.leaseTtl === undefined ? current.leaseTtlMs : durationMs(response.leaseTtl);
      this.#armExpiry(current);
      this.#beatAfter(current, current.intervalMs);
      const { sessionId } = current;
      if (response.orders !== undefined) {
        emit({ type: 'orders', sessionId, orders: response.orders });
      }
      const quarantined = [...(response.orders?.quarantinedDevices ?? [])].sort();
      if (current.quarantined !== JSON.stringify(quarantined)) {
        current.quarantined = JSON.stringify(quarantined);
        emit({ type: 'quarantine', sessionId, devices: quarantined });
      }
      if (response.lost.length > 0) {
        emit({ type: 'lost', sessionId, leases: response.lost });
      }
      if (current.held !== undefined || current.again) {
        this.#beatNow(current);
      } else if (response.sendHeld && held === undefined) {
        // A full list that still does not match is the work of leases under way: the next beat will do.
        emit({ type: 'held-wanted', sessionId });
      }
    } catch (error) {
      current.calling = false;
      // The list is outdated by the next try; a master that still wants it asks again.
      if (this.#current === current) {
        this.#failed(current, ConnectError.from(error), url);
      }
    }
  }

  #failed(current: Current, error: ConnectError, url: string): void {
    const { sessionId } = current;
    const reason = sessionRefusal(error);
    if (reason !== undefined) {
      this.end();
      this.#options.emit({ type: 'refused', sessionId, reason });
      return;
    }
    if (error.code === Code.DeadlineExceeded) {
      this.#options.reset();
    }
    current.failures++;
    const retryInMs = fullJitter(current.failures, { baseMs: 100, capMs: Math.min(current.intervalMs, 2_000) });
    this.#options.emit({
      type: 'failed',
      sessionId,
      failures: current.failures,
      retryInMs,
      reason: describe(error),
      url,
      left: this.#options.masters.url !== url,
    });
    this.#beatAfter(current, retryInMs);
  }

  #request(current: Current, held: HeldLease[] | undefined, { signs, started }: Report): HeartbeatRequest {
    const { namespace, shared, load, stampEveryMs } = this.#options;
    return create(HeartbeatRequestSchema, {
      namespace,
      sessionId: current.sessionId,
      number: ++current.number,
      digest: shared.readDigest(),
      // All that is held, where that was asked for; else what has begun.
      held: held ?? started,
      heldIsComplete: held !== undefined,
      signs,
      draining: shared.draining,
      metrics: {
        ...load.sample(),
        tasksCompleted: shared.completed,
        tasksFailed: shared.failed,
        running: shared.running,
        loopLagMs: shared.takeLoopLagMs(monotonicMs(), stampEveryMs),
      },
      ...(this.#health && {
        health: {
          ...this.#health.message,
          ageMs: BigInt(Math.max(0, Math.round(monotonicMs() - this.#health.judgedAtMs))),
        },
      }),
    });
  }

  /** No call is waited for longer than until the next would be due, or the lease over. */
  #timeoutMs(current: Current, nowMs: number): number {
    // Each master gets a part of what is left: several that answer nothing must not use up the lease.
    const left = (current.renewedMs + current.ttlMs - nowMs) / this.#options.masters.count;
    // Whole milliseconds: gRPC's header for it has no fractions.
    return Math.max(100, Math.ceil(Math.min(current.intervalMs, left)));
  }

  #armExpiry(current: Current): void {
    clearTimeout(current.expiryTimer);
    const until = current.renewedMs + current.ttlMs - margin(current.ttlMs);
    this.#options.shared.leaseUntilMs = until;
    const left = until - monotonicMs();
    current.expiryTimer = setTimeout(
      () => {
        const silentMs = Math.round(monotonicMs() - current.renewedMs);
        this.end();
        this.#options.emit({ type: 'expired', sessionId: current.sessionId, silentMs });
      },
      Math.max(0, left),
    );
  }
}

/** The worker lets go so long before its lease is over: time for the code to notice. */
export function margin(ttlMs: number): number {
  return Math.min(1_000, ttlMs * 0.1);
}
