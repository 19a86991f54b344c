import { once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import {
  type ExchangeRequest,
  type ExchangeResponse,
  ExchangeResponseSchema,
  type HeartbeatRequest,
  HeartbeatResponseSchema,
  type Lease,
  LeaseSchema,
  type LogLine,
  MasterService,
  OrdersSchema,
  type OutputChunk,
  PayloadEncoding,
  RefusedResultSchema,
  type RegisterWorkerRequest,
  type SubmitTaskRequest,
  type TaskResult,
  TaskService,
  TaskState,
} from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';

export interface FakeMasterOptions {
  readonly leaseTtlMs?: number;
  readonly heartbeatIntervalMs?: number;
  readonly longPollMs?: number;
  readonly drainGraceMs?: number;
  readonly maxResultBytes?: number;
}

/** An exchange as it arrived. */
export interface SeenExchange {
  readonly number: bigint;
  readonly offer: { readonly number: bigint; readonly freeSlots: number } | undefined;
  readonly waitMs: number;
  readonly results: readonly TaskResult[];
  /** `performance.now()` */
  readonly atMs: number;
  /** Granted in the answer; undefined while it is open. */
  granted: number | undefined;
}

interface SessionState {
  readonly id: string;
  readonly instanceId: string;
  lost: boolean;
  offerNumber: bigint;
  readonly leases: Map<string, Lease>;
  readonly cancels: Map<string, { epoch: number; reason: string }>;
  drain: boolean;
  shutdown: boolean;
}

/**
 * MasterService in memory, for tests of the worker only: it grants, fences and gives orders by the contract's words, keeps
 * a record of all that it saw, and can misbehave on demand. It has no retries, no clock of leases of its own (`loseSession`
 * does what a sweep would) and no store.
 */
export class FakeMaster {
  /** The newest that it speaks. */
  protocolVersion = 4;
  readonly registrations: RegisterWorkerRequest[] = [];
  readonly exchanges: SeenExchange[] = [];
  readonly heartbeats: HeartbeatRequest[] = [];
  readonly logs: LogLine[] = [];
  readonly appendCalls: number[] = [];
  /** Results that were taken, by task. */
  readonly results = new Map<string, TaskResult>();
  /** How often a result arrived, taken or not, by task. */
  readonly deliveries = new Map<string, number>();
  readonly refusals: { taskId: string; epoch: number }[] = [];
  readonly submits: SubmitTaskRequest[] = [];
  left: string[] = [];
  /** Registrations to fail from now on. */
  failRegistrations = 0;
  /** Registrations to take without an answer, and to forget again before the worker repeats them; from now on. */
  expireRegistrations = 0;
  /** Process exchanges that carry results, then cut the connection instead of answering; so many times. */
  loseAnswers = 0;
  /** AppendLogs calls to fail from now on. */
  failAppends = 0;
  /** Chunks of output that were taken, in order. */
  readonly outputs: OutputChunk[] = [];
  failOutputs = 0;
  /** The next heartbeats are asked for everything held; so many times. */
  wantHeld = 0;
  /** To be named as lost in the next heartbeat's answer. */
  loseLeases: { taskId: string; epoch: number }[] = [];
  /** Heartbeats get no answer while this is set. */
  deafToHeartbeats = false;
  /** Exchanges get no answer while this is set, nor ever one that came meanwhile. */
  deafToExchanges = false;
  /** Exchanges with a result that this holds for are refused as invalid. */
  invalidResult: ((result: TaskResult) => boolean) | undefined;
  /** Runs before an exchange with results is answered. */
  beforeAnswer: (() => Promise<void>) | undefined;

  readonly #options: Required<FakeMasterOptions>;
  readonly #server: Http2Server;
  readonly #connections = new Set<ServerHttp2Session>();
  readonly #sessions = new Map<string, SessionState>();
  readonly #ready: Lease[] = [];
  readonly #specs = new Map<string, Lease>();
  #nextTask = 1000n;
  #nextSession = 1;
  #watchers: (() => void)[] = [];

  private constructor(options: FakeMasterOptions, server: Http2Server) {
    this.#options = {
      leaseTtlMs: 30_000,
      heartbeatIntervalMs: 10_000,
      longPollMs: 2_000,
      drainGraceMs: 5_000,
      maxResultBytes: 2 * 1024 * 1024,
      ...options,
    };
    this.#server = server;
    server.on('request', connectNodeAdapter({ routes: (router) => this.#routes(router), acceptCompression: [] }));
    server.on('session', (session) => {
      this.#connections.add(session);
      session.on('close', () => this.#connections.delete(session));
      session.on('error', () => {});
    });
  }

  static async start(options: FakeMasterOptions = {}, port = 0): Promise<FakeMaster> {
    const server = createServer();
    const master = new FakeMaster(options, server);
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return master;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Of the newest registration. */
  get sessionId(): string {
    return [...this.#sessions.keys()].at(-1)!;
  }

  get waiting(): number {
    return this.#ready.length;
  }

  async close(): Promise<void> {
    this.cutConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  cutConnections(): void {
    for (const connection of this.#connections) {
      connection.destroy();
    }
  }

  /** Makes a task ready; its id. */
  submit(lease: MessageInitShape<typeof LeaseSchema> = {}): string {
    const taskId = String(this.#nextTask++);
    const full = create(LeaseSchema, {
      attempt: 1,
      maxAttempts: 4,
      epoch: 1,
      encoding: PayloadEncoding.JSON,
      executor: { case: 'function', value: {} },
      ...lease,
      taskId,
    });
    this.#specs.set(taskId, full);
    this.#ready.push(full);
    this.#changed();
    return taskId;
  }

  /** As `submit`, many at once and cheaply, of one kind without input. */
  submitMany(kind: string, count: number): void {
    const executor = create(LeaseSchema, { executor: { case: 'function', value: {} } }).executor;
    for (let i = 0; i < count; i++) {
      const taskId = String(this.#nextTask++);
      const lease = create(LeaseSchema, { taskId, kind, epoch: 1, attempt: 1, maxAttempts: 4 });
      lease.executor = executor;
      this.#ready.push(lease);
    }
    this.#changed();
  }

  /** What a sweep does when a session expired: its leases are another's from now on. */
  loseSession(sessionId = this.sessionId): void {
    this.#sessions.get(sessionId)!.lost = true;
    this.#changed();
  }

  /** Gives the lease to somebody else: the epoch moves on. */
  revoke(taskId: string, sessionId = this.sessionId): void {
    this.#sessions.get(sessionId)!.leases.delete(taskId);
  }

  /** Grants a lease again that the session holds, with the next exchange. */
  grantAgain(lease: MessageInitShape<typeof LeaseSchema>): void {
    this.#ready.push(create(LeaseSchema, lease));
    this.#changed();
  }

  cancel(taskId: string, reason = 'a test said so', sessionId = this.sessionId): void {
    const session = this.#sessions.get(sessionId)!;
    session.cancels.set(taskId, { epoch: session.leases.get(taskId)?.epoch ?? 1, reason });
    this.#changed();
  }

  orderDrain(sessionId = this.sessionId): void {
    this.#sessions.get(sessionId)!.drain = true;
    this.#changed();
  }

  orderShutdown(sessionId = this.sessionId): void {
    this.#sessions.get(sessionId)!.shutdown = true;
    this.#changed();
  }

  held(sessionId = this.sessionId): number {
    return this.#sessions.get(sessionId)!.leases.size;
  }

  /** Resolves when the condition holds; looks after each change. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => this.#watchers.push(resolve));
    }
  }

  /** The result of a task, once it was taken. */
  async result(taskId: string): Promise<TaskResult> {
    await this.until(() => this.results.has(taskId));
    return this.results.get(taskId)!;
  }

  #changed(): void {
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const watcher of watchers) {
      watcher();
    }
  }

  #session(id: string): SessionState {
    const session = this.#sessions.get(id);
    if (session === undefined || session.lost) {
      throw refusal(Code.FailedPrecondition, 'SESSION_LOST', 'the session is over');
    }
    return session;
  }

  #routes(router: ConnectRouter): void {
    router.service(MasterService, {
      registerWorker: (request) => this.#register(request),
      exchange: (request, { signal }) => this.#exchange(request, signal),
      heartbeat: (request, { signal }) => this.#heartbeat(request, signal),
      appendLogs: ({ sessionId, lines }) => {
        if (this.failAppends > 0) {
          this.failAppends--;
          throw new ConnectError('not now', Code.Unavailable);
        }
        const session = this.#session(sessionId);
        const owned = lines.filter((line) => session.leases.get(line.taskId)?.epoch === line.epoch);
        this.logs.push(...owned);
        this.appendCalls.push(lines.length);
        this.#changed();
        return { refused: lines.length - owned.length };
      },
      appendOutput: ({ sessionId, chunks }) => {
        if (this.failOutputs > 0) {
          this.failOutputs--;
          throw new ConnectError('not now', Code.Unavailable);
        }
        const session = this.#session(sessionId);
        const refused = chunks.filter((chunk) => session.leases.get(chunk.taskId)?.epoch !== chunk.epoch);
        for (const chunk of chunks) {
          if (!refused.includes(chunk)) this.outputs.push(chunk);
        }
        this.#changed();
        return {
          refused: refused.map(({ taskId, epoch }) => ({ taskId, epoch, reason: 'LEASE_LOST', message: 'not held' })),
        };
      },
      leave: ({ sessionId, reason }) => {
        const session = this.#session(sessionId);
        session.lost = true;
        this.left.push(reason);
        this.#changed();
        return { returned: session.leases.size };
      },
    });
    router.service(TaskService, {
      submitTask: (request) => {
        this.submits.push(request);
        const { kind = '', payload } = request.task ?? {};
        const json = payload?.case === 'inputJson' ? payload.value : 'null';
        return { taskId: this.submit({ kind, input: new TextEncoder().encode(json) }) };
      },
      getTask: async ({ taskId, wait }) => {
        const timeout = setTimeout(() => this.#changed(), Number(wait?.seconds ?? 0n) * 1000);
        const until = performance.now() + Number(wait?.seconds ?? 0n) * 1000;
        await this.until(() => this.results.has(taskId) || performance.now() >= until);
        clearTimeout(timeout);
        const result = this.results.get(taskId);
        const output = result?.outcome.case === 'success' ? new TextDecoder().decode(result.outcome.value.output) : '';
        const state = result === undefined ? TaskState.LEASED : TaskState.SUCCEEDED;
        return { task: { id: taskId, state, outputPayload: { case: 'outputJson', value: output } } };
      },
    });
  }

  #register(request: RegisterWorkerRequest) {
    this.registrations.push(request);
    if (request.protocolVersion > this.protocolVersion) {
      throw refusal(Code.FailedPrecondition, 'PROTOCOL_VERSION', `this master speaks ${this.protocolVersion}`);
    }
    this.#changed();
    if (this.failRegistrations > 0) {
      this.failRegistrations--;
      throw new ConnectError('not now', Code.Unavailable);
    }
    let session = [...this.#sessions.values()].find((each) => each.instanceId === request.instanceId);
    if (session === undefined) {
      session = {
        id: `s${this.#nextSession++}`,
        instanceId: request.instanceId,
        lost: false,
        offerNumber: 0n,
        leases: new Map(),
        cancels: new Map(),
        drain: false,
        shutdown: false,
      };
      this.#sessions.set(session.id, session);
    }
    if (session.lost) {
      throw refusal(Code.FailedPrecondition, 'SESSION_LOST', 'this instance is over');
    }
    if (this.expireRegistrations > 0) {
      this.expireRegistrations--;
      session.lost = true;
      throw new ConnectError('the answer is lost', Code.Unavailable);
    }
    return {
      sessionId: session.id,
      masterId: 'fake',
      protocolVersion: this.protocolVersion,
      leaseTtl: durationFromMs(this.#options.leaseTtlMs),
      heartbeatInterval: durationFromMs(this.#options.heartbeatIntervalMs),
      longPoll: durationFromMs(this.#options.longPollMs),
      drainGrace: durationFromMs(this.#options.drainGraceMs),
      maxResultBytes: BigInt(this.#options.maxResultBytes),
    };
  }

  async #exchange(request: ExchangeRequest, signal: AbortSignal): Promise<ExchangeResponse> {
    const session = this.#session(request.sessionId);
    const seen: SeenExchange = {
      number: request.number,
      offer: request.offer,
      waitMs: request.waitMs,
      results: request.results,
      atMs: performance.now(),
      granted: undefined,
    };
    this.exchanges.push(seen);
    if (this.deafToExchanges) {
      this.#changed();
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      throw new ConnectError('nobody hears this', Code.Unavailable);
    }
    if (request.results.some((result) => this.invalidResult?.(result))) {
      throw new ConnectError('a result is not valid', Code.InvalidArgument);
    }
    const response = create(ExchangeResponseSchema);
    for (const result of request.results) {
      this.#take(session, result, response);
    }
    if (request.offer !== undefined && request.offer.number > session.offerNumber) {
      session.offerNumber = request.offer.number;
    }
    this.#changed();
    const wanted = () => (request.offer?.number === session.offerNumber ? request.offer.freeSlots : 0);
    const voided = () => request.offer !== undefined && request.offer.number < session.offerNumber;
    const orders = () => session.drain || session.shutdown || session.cancels.size > 0;
    if (request.results.length === 0 && request.waitMs > 0) {
      let over = false;
      const end = () => {
        over = true;
        this.#changed();
      };
      const timer = setTimeout(end, Math.min(request.waitMs, this.#options.longPollMs));
      signal.addEventListener('abort', end);
      await this.until(() => over || session.lost || voided() || orders() || (wanted() > 0 && this.#ready.length > 0));
      clearTimeout(timer);
    }
    this.#session(request.sessionId);
    if (!voided() && !signal.aborted) {
      response.leases = this.#ready.splice(0, wanted());
      for (const lease of response.leases) {
        session.leases.set(lease.taskId, lease);
      }
    }
    seen.granted = response.leases.length;
    if (orders()) {
      response.orders = this.#orders(session);
    }
    if (request.results.length > 0) {
      await this.beforeAnswer?.();
      if (this.loseAnswers > 0) {
        this.loseAnswers--;
        this.cutConnections();
      }
    }
    return response;
  }

  #take(session: SessionState, result: TaskResult, response: ExchangeResponse): void {
    const { taskId, epoch } = result;
    this.deliveries.set(taskId, (this.deliveries.get(taskId) ?? 0) + 1);
    const known = this.results.get(taskId);
    if (known?.epoch === epoch) {
      // The same result again, because its answer was lost.
      return;
    }
    if (session.leases.get(taskId)?.epoch !== epoch) {
      this.refusals.push({ taskId, epoch });
      const message = 'the lease is not this session’s';
      response.refused.push(create(RefusedResultSchema, { taskId, epoch, reason: 'LEASE_LOST', message }));
      return;
    }
    session.leases.delete(taskId);
    session.cancels.delete(taskId);
    this.results.set(taskId, result);
  }

  #orders(session: SessionState) {
    return create(OrdersSchema, {
      cancels: Array.from(session.cancels, ([taskId, { epoch, reason }]) => ({ taskId, epoch, reason })),
      drain: session.drain,
      shutdown: session.shutdown,
    });
  }

  async #heartbeat(request: HeartbeatRequest, signal: AbortSignal) {
    if (this.deafToHeartbeats) {
      // The call's own deadline may end it here before it does at the worker, who must not hear of an accepted one then.
      await once(signal, 'abort');
      throw new ConnectError('not heard', Code.DeadlineExceeded);
    }
    const session = this.#session(request.sessionId);
    this.heartbeats.push(request);
    const sendHeld = this.wantHeld > 0 && !request.heldIsComplete;
    if (sendHeld) {
      this.wantHeld--;
    }
    const lost = this.loseLeases;
    this.loseLeases = [];
    this.#changed();
    return create(HeartbeatResponseSchema, {
      leaseTtl: durationFromMs(this.#options.leaseTtlMs),
      sendHeld,
      lost,
      orders: this.#orders(session),
    });
  }
}

function refusal(code: Code, reason: string, message: string): ConnectError {
  return new ConnectError(message, code, undefined, [
    { desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } },
  ]);
}
