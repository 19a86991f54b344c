import type { Orders, RegisterWorkerResponse, TaskResult } from '@baton/contract';
import type { Logger } from '@baton/telemetry';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import type { ArtifactCache } from './attempts/artifact-cache.ts';
import type { Executor } from './attempts/executor.ts';
import type { ResourceAccounts } from './attempts/resource-accounts.ts';
import { TaskData } from './attempts/task-data.ts';
import { handedBack } from './attempts/task-result.ts';
import { Work } from './attempts/work.ts';
import type { MasterConnection } from './calls/connection.ts';
import { batchLength, Exchange } from './calls/exchange.ts';
import { describe } from './calls/refusal.ts';
import { monotonicMs } from './clock.ts';
import { aborted, first } from './first.ts';
import type { Heartbeat } from './heartbeat/heartbeat.ts';
import { type HeartbeatEvent, margin } from './heartbeat/heartbeat-loop.ts';
import { Sayings } from './heartbeat/sayings.ts';
import type { SharedState } from './heartbeat/shared-state.ts';
import type { LogHub } from './shipping/log-hub.ts';
import { LogShipper } from './shipping/log-shipper.ts';
import { OutputShipper } from './shipping/output-shipper.ts';

/** How often the main loop says that it turns, and what has become superfluous is handed back. */
export const stampEveryMs = 100;

const defaults = {
  leaseTtlMs: 30_000,
  heartbeatIntervalMs: 10_000,
  longPollMs: 20_000,
  maxResultBytes: 2 * 1024 * 1024,
};
const callTimeoutMs = 10_000;
/** After the work has ended: for its last results to be answered, and for Leave. */
const farewellMs = 5_000;

/**
 * How a session ended: the worker left, or the master let go of it. `silent`: nobody said so; the worker gave it up because
 * no master answered for a lease time. After an outage the master goes on counting on it.
 */
export type SessionEnd =
  | { readonly kind: 'left' }
  | { readonly kind: 'lost'; readonly reason: string; readonly silent: boolean };

export interface SessionOptions {
  readonly namespace: string;
  readonly registration: RegisterWorkerResponse;
  /** When RegisterWorker was sent, of `monotonicMs`. */
  readonly registeredAtMs: number;
  readonly connection: MasterConnection;
  readonly heartbeat: Heartbeat;
  readonly shared: SharedState;
  readonly executors: readonly Executor[];
  readonly slots: number;
  readonly accounts: ResourceAccounts;
  readonly prefetchCap: number;
  readonly abortGraceMs: number;
  readonly variables: Readonly<Record<string, string>>;
  readonly cache: ArtifactCache;
  readonly hub: LogHub;
  readonly log: Logger;
  /** All devices that the master keeps tasks away from, when they change. */
  readonly onQuarantine?: (devices: readonly string[]) => void;
  readonly onDrainOrder: () => void;
  readonly onShutdownOrder: () => void;
}

/**
 * One life of the worker in the eyes of the master. It owns all that is fenced by the session's id: leases, results,
 * lines. When it is lost all of that goes with it, so that nothing of one session is ever sent in another.
 */
export class Session {
  readonly id: string;
  readonly work: Work;
  /** Resolves once, when the session is over. Never rejects. */
  readonly ended: Promise<SessionEnd>;
  readonly #options: SessionOptions;
  readonly #exchange: Exchange;
  readonly #logs: LogShipper;
  readonly #sayings: Sayings;
  readonly #outputs: OutputShipper;
  readonly #stamp: NodeJS.Timeout;
  #end!: (end: SessionEnd) => void;
  #over = false;
  readonly #heartbeatIntervalMs: number;
  /** When the master was last told everything that is held. */
  #listedAtMs = Number.NEGATIVE_INFINITY;
  /** What the master has not answered for. */
  #unsent: TaskResult[] = [];

  constructor(options: SessionOptions) {
    const { registration, connection, namespace, shared } = options;
    const sessionId = registration.sessionId;
    this.id = sessionId;
    this.#options = options;
    this.#heartbeatIntervalMs =
      registration.heartbeatInterval === undefined
        ? defaults.heartbeatIntervalMs
        : durationMs(registration.heartbeatInterval);
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#logs = new LogShipper({
      hub: options.hub,
      log: options.log,
      send: async (lines) => {
        const request = { namespace, sessionId, lines };
        return (await connection.master.appendLogs(request, { timeoutMs: callTimeoutMs })).refused;
      },
    });
    this.#outputs = new OutputShipper({
      log: options.log,
      send: async (chunks) => {
        const request = { namespace, sessionId, chunks };
        return (await connection.master.appendOutput(request, { timeoutMs: callTimeoutMs })).refused;
      },
    });
    this.#sayings = new Sayings((taskId, epoch, message) =>
      options.heartbeat.send({ type: 'said', taskId, epoch, message }),
    );
    this.work = new Work({
      executors: options.executors,
      slots: options.slots,
      accounts: options.accounts,
      prefetchCap: options.prefetchCap,
      abortGraceMs: options.abortGraceMs,
      maxResultBytes: Number(registration.maxResultBytes) || defaults.maxResultBytes,
      logs: this.#logs,
      outputs: this.#outputs,
      data: new TaskData({
        namespace,
        sessionId,
        connection,
        masterKeeps: registration.protocolVersion >= 2,
        log: options.log,
        cache: options.cache,
        onLost: ({ taskId, epoch }, reason) => this.work.lose(taskId, epoch, reason),
      }),
      variables: options.variables,
      shared,
      onSaid: (attempt, message) => this.#sayings.say(attempt, message),
      log: options.log,
      onOver: (taskId) => options.hub.ended(taskId),
      onResult: (result: TaskResult) => this.#exchange.add(result),
      onTaken: (result: TaskResult) => {
        this.work.acknowledge([result]);
        this.#exchange.kick();
      },
    });
    this.#exchange = new Exchange({
      namespace,
      sessionId,
      longPollMs: registration.longPoll === undefined ? defaults.longPollMs : durationMs(registration.longPoll),
      call: (request, call) => connection.master.exchange(request, call),
      staleBefore: () => this.#listedAtMs - this.#heartbeatIntervalMs,
      onLateLeases: (leases) => {
        for (const { taskId, epoch } of leases) {
          if (!this.work.holds(taskId, epoch)) {
            this.#exchange.add(handedBack(taskId, epoch));
          }
        }
      },
      wanted: () => this.work.wanted,
      ...(registration.protocolVersion >= 4 && {
        room: () => ({
          ...options.accounts.offered(),
          resourceSlots: this.work.resourceSlots,
          nextDevices: this.work.nextDevices,
          warm: options.executors.flatMap((executor) => executor.warm?.() ?? []),
        }),
      }),
      onLeases: (leases, { asked }) => {
        if (asked !== undefined) {
          const { queued: left, idleSlots } = this.work;
          this.work.prefetch.roundTrip({ asked, given: leases.length, left, idle: idleSlots > 0 });
        }
        if (leases.length > 0) {
          this.work.accept(leases);
        }
      },
      onOrders: (orders) => this.#obey(orders),
      onSettled: (results) => this.work.acknowledge(results),
      onSessionLost: (reason) => this.lose(reason),
      onSilence: connection.reset,
      log: options.log,
    });
    shared.draining = false;
    const leaseTtlMs = registration.leaseTtl === undefined ? defaults.leaseTtlMs : durationMs(registration.leaseTtl);
    shared.leaseUntilMs = options.registeredAtMs + leaseTtlMs - margin(leaseTtlMs);
    const stamp = () => {
      const now = monotonicMs();
      shared.stampLoop(now, now - due);
      due = now + stampEveryMs;
      this.work.handBackSurplus();
      const signature = `${options.accounts.signature} ${this.work.nextDevices}`;
      if (signature !== offered) {
        // A device is free, or has room for the next, that was not or had none, or the other way round.
        offered = signature;
        this.#exchange.renewPoll();
      }
      this.work.resume();
    };
    let due = monotonicMs();
    let offered = `${options.accounts.signature} ${this.work.nextDevices}`;
    stamp();
    this.#stamp = setInterval(stamp, stampEveryMs);
    options.heartbeat.send({
      type: 'begin',
      session: {
        sessionId,
        leaseTtlMs,
        intervalMs: this.#heartbeatIntervalMs,
        renewedAtMs: options.registeredAtMs,
      },
    });
    this.#exchange.kick();
  }

  /** While a gate is closed nothing new is taken; what is held goes on. */
  set isGateClosed(isClosed: boolean) {
    this.#exchange.paused = isClosed;
  }

  /** What the heartbeat has to say. Events of another session are not for this one. */
  onHeartbeat(event: HeartbeatEvent): void {
    if (event.sessionId !== this.id || this.#over) {
      return;
    }
    switch (event.type) {
      case 'orders':
        this.#obey(event.orders);
        break;
      case 'quarantine':
        this.#options.onQuarantine?.(event.devices);
        break;
      case 'lost':
        for (const { taskId, epoch } of event.leases) {
          this.work.lose(taskId, epoch, 'the master gave the lease to another');
        }
        this.#exchange.kick();
        break;
      case 'held-wanted':
        this.#listedAtMs = monotonicMs();
        this.#exchange.renewPoll();
        this.#options.heartbeat.send({ type: 'held', sessionId: this.id, held: this.work.list() });
        break;
      case 'failed':
        this.#options.log.warn('heartbeat failed', {
          failures: event.failures,
          retry_in_ms: event.retryInMs,
          master: event.url,
          reason: event.reason,
        });
        // This thread may not have noticed yet: an open poll says nothing. It may be answered still, so it is not cut off.
        if (event.left && this.#options.connection.leave(event.url)) {
          this.#exchange.renewPoll();
        }
        break;
      case 'recovered':
        // The master is back: results need not wait for the end of their own pause.
        this.#exchange.retryNow();
        break;
      case 'refused':
        this.lose(event.reason);
        break;
      case 'expired':
        this.lose(`no heartbeat was accepted for ${event.silentMs} ms`, true);
        break;
    }
  }

  /** The leases are another's by now, or may be: end all work, discard what comes of it. */
  lose(reason: string, silent = false): void {
    if (this.#finish()) {
      this.#options.log.warn('session lost', { held: this.work.held, reason });
      this.work.loseAll(reason);
      this.#end({ kind: 'lost', reason, silent });
    }
  }

  /**
   * For a session that was given up in silence, once a master answers again: hands in what was finished (it stands while
   * nobody else has the task), and gives back the rest as soon as its code has ended, so that nobody waits for the end of
   * leases that an outage extended. Never rejects.
   */
  async makeGood(reason: string): Promise<void> {
    const { connection, namespace, log } = this.#options;
    try {
      while (this.#unsent.length > 0) {
        const results = this.#unsent.splice(0, batchLength(this.#unsent));
        const request = { namespace, sessionId: this.id, results };
        const { refused } = await connection.atAny(() =>
          connection.master.exchange(request, { timeoutMs: callTimeoutMs }),
        );
        log.info('results handed in late', { results: results.length, refused: refused.length });
      }
      await this.work.whenCodeEnded();
      const request = { namespace, sessionId: this.id, reason };
      const { returned } = await connection.atAny(() => connection.master.leave(request, { timeoutMs: farewellMs }));
      log.info('left an earlier session', { returned, reason });
    } catch (error) {
      // The master let go of it, too; or its leases come back when they expire.
      log.info('an earlier session is over', { reason: describe(ConnectError.from(error)) });
    }
  }

  /**
   * Takes no new work, hands back what has not been started, finishes what runs within `graceMs`, ends and hands back the
   * rest, leaves. `hurry` ends the grace at once. Resolves, as `ended` does, when the session is over.
   */
  async drain(reason: string, graceMs: number, hurry: AbortSignal): Promise<void> {
    const { heartbeat, shared } = this.#options;
    shared.draining = true;
    heartbeat.send({ type: 'beat' });
    this.work.stopAccepting();
    this.#exchange.withdraw();
    await first([this.work.whenIdle(), this.ended, aborted(hurry)], graceMs);
    if (!this.#over && this.work.running > 0) {
      this.#options.log.warn('drain grace over', { running: this.work.running });
      // Now means now: without a grace there is none for checkpoints either.
      this.work.handBackRunning('the worker stops', graceMs === 0 ? AbortSignal.abort() : hurry);
      // Ends in any case: what does not stop is given up after the abort grace.
      await Promise.race([this.work.whenIdle(), this.ended]);
    }
    await first([this.#settled(), this.ended], farewellMs);
    await this.#leave(reason);
  }

  async #settled(): Promise<void> {
    // Results may still wait for their lines before they reach the exchange.
    while (this.work.held > 0 && !this.#over) {
      await first([this.ended], 10);
    }
    await this.#exchange.whenSettled();
  }

  async #leave(reason: string): Promise<void> {
    if (this.#over) {
      return;
    }
    const { connection, heartbeat, namespace, log } = this.#options;
    // A poll or heartbeat under way would be told that the session is over, which is no news by then.
    this.#exchange.close();
    heartbeat.send({ type: 'end' });
    try {
      const request = { namespace, sessionId: this.id, reason };
      const { returned } = await connection.atAny(() => connection.master.leave(request, { timeoutMs: farewellMs }));
      log.info('left the master', { returned, reason });
    } catch (error) {
      // Its leases come back when they expire.
      log.warn('could not leave the master', { reason: describe(ConnectError.from(error)) });
    }
    if (this.#finish()) {
      this.work.loseAll(reason);
      this.#end({ kind: 'left' });
    }
  }

  #obey(orders: Orders): void {
    for (const { taskId, epoch, reason } of orders.cancels) {
      this.work.cancel(taskId, epoch, reason);
    }
    if (orders.recall > 0) {
      const returned = this.work.recall(orders.recall);
      this.#options.log.info('leases handed back that others wait for', { asked: orders.recall, returned });
    }
    if (orders.shutdown) {
      this.#options.onShutdownOrder();
    } else if (orders.drain) {
      this.#options.onDrainOrder();
    }
  }

  #finish(): boolean {
    if (this.#over) {
      return false;
    }
    this.#over = true;
    clearInterval(this.#stamp);
    this.#options.heartbeat.send({ type: 'end' });
    this.#unsent = this.#exchange.close();
    this.#logs.close();
    this.#sayings.close();
    this.#outputs.close();
    return true;
  }
}

/** Resolves with the first of these, or after a time. */
