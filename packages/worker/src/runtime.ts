import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  RegisterWorkerRequestSchema,
  TaskClass,
  type WorkerCapabilities,
  WorkerCapabilitiesSchema,
  WorkerService,
} from '@baton/contract';
import { createLoadMeter, type DeviceBook, type HealthMonitor, type HealthReport, type Tool } from '@baton/hardware';
import { type RunningServer, serve } from '@baton/server';
import type { Logger } from '@baton/telemetry';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import { ArtifactCache, type CacheStats } from './attempts/artifact-cache.ts';
import type { Executor } from './attempts/executor.ts';
import { ResourceAccounts } from './attempts/resource-accounts.ts';
import { fullJitter } from './calls/backoff.ts';
import { type Compression, connectMasters, type MasterConnection } from './calls/connection.ts';
import { describe } from './calls/refusal.ts';
import { pause, registerUntilAccepted } from './calls/registration.ts';
import { inOrderOf } from './calls/rotation.ts';
import { monotonicMs } from './clock.ts';
import { WorkerOptionsError, WorkerStoppedError } from './errors.ts';
import { gpuMessage, healthMessage, toolMessage } from './heartbeat/health-message.ts';
import { type Heartbeat, startHeartbeat } from './heartbeat/heartbeat.ts';
import { SharedState } from './heartbeat/shared-state.ts';
import { Session, stampEveryMs } from './session.ts';
import { LogHub } from './shipping/log-hub.ts';
import { type State, type StateName, stateName, transitions } from './state.ts';
import { workerService } from './worker-service.ts';

/** That this worker speaks; with a master of the version before, the one before. */
const PROTOCOL_VERSIONS = [4, 3, 2, 1] as const;
/** The first look at machine and tools holds up the start for no longer. */
const detectWithinMs = 1_500;
const rejoin = { baseMs: 200, capMs: 10_000 };

/** Everything that a worker is made of. */
export interface WorkerRuntimeOptions {
  /**
   * Of a master, http://host:port, or of several of one Postgres: the worker uses one at a time, and goes on at another, in the same
   * session, when that one cannot be reached or does not answer. With which it begins depends on its name.
   */
  readonly masterUrl: string | readonly string[];
  /** Default "default". */
  readonly namespace?: string;
  /** Stable over restarts; unique in the namespace. */
  readonly name: string;
  /** Shown by `GetStatus` and to the master. */
  readonly version: string;
  readonly executors: readonly Executor[];
  /** What the machine has and the worker takes. `executors` and `kinds` are filled in here. `slots`: tasks at once. */
  readonly capabilities: Omit<MessageInitShape<typeof WorkerCapabilitiesSchema>, '$typeName'> & { slots: number };
  /** The machine's devices, which are its `capabilities.gpus`. Default: none. */
  readonly devices?: DeviceBook;
  /** Programs that are on the PATH; they may become known later. Default: none are told. */
  readonly tools?: readonly Tool[] | Promise<readonly Tool[]>;
  /**
   * Watches the machine: its devices are told as capabilities, its report goes with each heartbeat, and its gates stop new work. The
   * runtime starts and closes it. Default: nobody watches.
   */
  readonly health?: HealthMonitor;
  readonly log: Logger;
  /** Heartbeats from a thread of their own, so that code that blocks the main loop keeps its leases. Default true. */
  readonly heartbeatInThread?: boolean;
  /** Where `WorkerService` is served. 0, the default: any free port. `null`: not served. */
  readonly servicePort?: number | null;
  /** Default 127.0.0.1. */
  readonly serviceHost?: string;
  /** Exact origins whose pages may call `WorkerService`. Default none. */
  readonly corsOrigins?: readonly string[];
  /** The most leases held beyond the slots while tasks are short. 0: none. Default 2 000. */
  readonly prefetchCap?: number;
  /** How long the code of a task may take to end after it was told to. Default 2 000. */
  readonly abortGraceMs?: number;
  /** Variables that tasks may be handed where they ask for them by `environment.pass`, by name. Default: none. */
  readonly taskVariables?: Readonly<Record<string, string>>;
  /**
   * Where files lie that tasks are handed and produce, and how many bytes of them stay. Several workers of one machine may share a
   * directory. Default: `baton-cache` in the system's directory for temporary files, 10 GiB.
   */
  readonly cache?: { readonly directory?: string; readonly maxBytes?: number };
  /** How long a drain lets tasks run. Default: what the master says, 30 000. */
  readonly drainGraceMs?: number;
  /** Whether messages from 1 KiB on travel compressed. Default `auto`: unless the master is on this machine. */
  readonly compression?: Compression;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface WorkerRuntime {
  /** Resolves when a master has taken the worker; rejects with `WorkerStoppedError`, or when its port is taken. */
  start(): Promise<void>;
  /** Takes no new work, finishes what it holds within the grace, hands back the rest, leaves. Resolves when stopped. */
  drain(reason: string): Promise<void>;
  /** Hands back what it holds and leaves now; ends a drain's grace. Resolves when stopped. */
  shutdown(reason: string): Promise<void>;
  readonly state: StateName;
  /** Of the current session; undefined without one. */
  readonly sessionId: string | undefined;
  /** Where `WorkerService` is served; undefined before `start` and where it is not. */
  readonly url: string | undefined;
  /** Of the master that it talks to now. */
  readonly masterUrl: string;
  /** Resolves with the reason when everything has ended. */
  readonly stopped: Promise<string>;
  /** What its cache of files did. */
  readonly cacheStats: Readonly<CacheStats>;
  /** What health there is, and which devices, has changed: the master is told. */
  noteHealth(report: HealthReport, hasChanged?: boolean): void;
  /** Which devices there are has changed: the worker registers again, and keeps its session. */
  noteDevices(): void;
}

/** Makes a worker; `start` brings it to life. Throws `WorkerOptionsError`. */
export function createWorkerRuntime(options: WorkerRuntimeOptions): WorkerRuntime {
  validate(options);
  return new Runtime(options);
}

class Runtime implements WorkerRuntime {
  readonly stopped: Promise<string>;
  readonly #options: WorkerRuntimeOptions;
  readonly #log: Logger;
  readonly #connection: MasterConnection;
  readonly #masterUrls: readonly string[];
  readonly #shared: SharedState;
  readonly #accounts: ResourceAccounts;
  readonly #hub = new LogHub();
  readonly #cache: ArtifactCache;
  #state: State = { kind: 'new' };
  #heartbeat: Heartbeat | undefined;
  #server: RunningServer | undefined;
  #registered = Promise.withResolvers<void>();
  #stop = Promise.withResolvers<string>();
  #drainGraceMs = 30_000;
  #protocolVersion: number = PROTOCOL_VERSIONS[0];
  #instanceId = '';
  /** The session whose kinds have changed since it began. */
  #newKinds: Session | undefined;
  #announcing = false;
  #announceAgain = false;
  #tools: readonly Tool[] = [];

  constructor(options: WorkerRuntimeOptions) {
    this.#options = options;
    this.#shared = new SharedState(options.capabilities.slots);
    this.#accounts = new ResourceAccounts({
      cpus: options.capabilities.cpus ?? 0,
      memoryBytes: Number(options.capabilities.memoryBytes ?? 0n),
      devices: options.devices,
    });
    this.#log = options.log.child({ worker: options.name });
    this.#cache = new ArtifactCache({
      directory: options.cache?.directory ?? join(tmpdir(), 'baton-cache'),
      maxBytes: options.cache?.maxBytes ?? 10 * 1024 ** 3,
      log: this.#log,
    });
    this.#masterUrls = inOrderOf(options.name, urlsOf(options));
    this.#connection = connectMasters(
      { urls: this.#masterUrls, pingIntervalMs: 10_000, pingTimeoutMs: 5_000, compression: options.compression },
      (url, from) => this.#onMove(url, from),
    );
    this.stopped = this.#stop.promise;
    // Whoever calls `start` gets it; nobody is obliged to.
    this.#registered.promise.catch(() => {});
    for (const executor of options.executors) {
      executor.onKindsChange?.(() => void this.#announceKinds());
    }
  }

  get cacheStats(): Readonly<CacheStats> {
    return this.#cache.stats;
  }

  get state(): StateName {
    return stateName(this.#state);
  }

  get sessionId(): string | undefined {
    return this.session?.id;
  }

  get url(): string | undefined {
    return this.#server?.url;
  }

  get masterUrl(): string {
    return this.#connection.url;
  }

  noteHealth(report: HealthReport, hasChanged = false): void {
    const { health } = this.#options;
    if (health === undefined) {
      return;
    }
    this.#heartbeat?.send({ type: 'health', health: healthMessage(report), judgedAtMs: monotonicMs() });
    if (hasChanged) {
      // What came or went is told at once: others ask the master why their work waits.
      this.#heartbeat?.send({ type: 'beat' });
    }
    const { session } = this;
    if (session !== undefined) {
      session.isGateClosed = health.closedGate !== undefined;
    }
  }

  noteDevices(): void {
    void this.#announceKinds();
  }

  get session(): Session | undefined {
    return this.#state.kind === 'registered' || this.#state.kind === 'draining' ? this.#state.session : undefined;
  }

  async start(): Promise<void> {
    if (this.#state.kind !== 'new') {
      return this.#registered.promise;
    }
    const abort = new AbortController();
    this.#become({ kind: 'connecting', abort });
    await Promise.all(this.#options.executors.map((executor) => executor.ready?.()));
    if (!this.#is('connecting')) {
      // Told to end meanwhile.
      return this.#registered.promise;
    }
    try {
      await this.#serve();
    } catch (error) {
      this.#become({
        kind: 'draining',
        session: undefined,
        reason: 'its port cannot be served',
        hurry: new AbortController(),
      });
      await this.#finish('its port cannot be served');
      throw error;
    }
    this.#heartbeat = startHeartbeat({
      namespace: this.#options.namespace ?? '',
      masterUrls: this.#masterUrls,
      shared: this.#shared,
      inThread: this.#options.heartbeatInThread ?? true,
      stampEveryMs,
      log: this.#log,
      onEvent: (event) => this.session?.onHeartbeat(event),
    });
    await this.#detect();
    if (!this.#is('connecting')) {
      // Told to end meanwhile.
      return this.#registered.promise;
    }
    if (this.#options.health !== undefined) {
      this.noteHealth(this.#options.health.report);
    }
    void this.#live(abort, this.#heartbeat);
    return this.#registered.promise;
  }

  async drain(reason: string): Promise<void> {
    this.#end(reason, this.#options.drainGraceMs ?? this.#drainGraceMs);
    await this.stopped;
  }

  async shutdown(reason: string): Promise<void> {
    if (this.#state.kind === 'draining') {
      this.#state.hurry.abort();
    } else {
      this.#end(reason, 0);
    }
    await this.stopped;
  }

  /** One session after the other, until the worker is told to end. */
  async #live(abort: AbortController, heartbeat: Heartbeat): Promise<void> {
    let shortLives = 0;
    let signal = abort.signal;
    let givenUp: Session | undefined;
    // Before the first session: its time counts from the registration on.
    await heartbeat.ready;
    const renewInstance = () => {
      this.#instanceId = randomUUID();
    };
    for (;;) {
      renewInstance();
      const registration = await registerUntilAccepted(
        this.#connection,
        (protocolVersion) => {
          this.#protocolVersion = protocolVersion;
          return this.#request();
        },
        PROTOCOL_VERSIONS,
        renewInstance,
        signal,
        this.#log,
      );
      if (registration === undefined || !this.#is('connecting')) {
        // Told to end meanwhile; a session that was given all the same ends with its lease.
        return;
      }
      const { response, sentAtMs } = registration;
      this.#drainGraceMs = response.drainGrace === undefined ? this.#drainGraceMs : durationMs(response.drainGrace);
      const session = new Session({
        namespace: this.#options.namespace ?? '',
        registration: response,
        registeredAtMs: sentAtMs,
        connection: this.#connection,
        heartbeat,
        shared: this.#shared,
        executors: this.#options.executors,
        slots: this.#options.capabilities.slots,
        accounts: this.#accounts,
        prefetchCap: this.#options.prefetchCap ?? 2_000,
        abortGraceMs: this.#options.abortGraceMs ?? 2_000,
        variables: this.#options.taskVariables ?? {},
        cache: this.#cache,
        hub: this.#hub,
        log: this.#log.child({ session_id: response.sessionId }),
        onQuarantine: (devices) => {
          if (this.#options.health !== undefined) {
            this.#options.health.quarantined = devices;
          }
        },
        onDrainOrder: () => void this.drain('the master said so'),
        onShutdownOrder: () => void this.shutdown('the master said so'),
      });
      const begun = performance.now();
      session.isGateClosed = this.#options.health?.closedGate !== undefined;
      this.#become({ kind: 'registered', session });
      this.#log.info('worker registered', { session_id: session.id, master_id: response.masterId, url: this.url });
      this.#registered.resolve();
      void givenUp?.makeGood('no master answered for a lease time');
      const end = await session.ended;
      if (!this.#is('registered') || end.kind !== 'lost') {
        // It drains: whoever drains it also ends it.
        return;
      }
      givenUp = end.silent ? session : undefined;
      const again = new AbortController();
      this.#become({ kind: 'lost', reason: end.reason, abort: again });
      // A session that is lost soon, again and again, belongs to a second worker of the same name, most likely.
      const ttlMs = response.leaseTtl === undefined ? 30_000 : durationMs(response.leaseTtl);
      shortLives = performance.now() - begun < 2 * ttlMs ? shortLives + 1 : 0;
      if (shortLives > 2) {
        this.#log.warn('sessions are lost soon after they begin', {
          sessions: shortLives,
          hint: 'is the name used twice?',
        });
      }
      await pause(shortLives > 1 ? fullJitter(shortLives, rejoin) : 0, again.signal);
      if (!this.#is('lost')) {
        return;
      }
      this.#become({ kind: 'connecting', abort: again });
      signal = again.signal;
    }
  }

  #end(reason: string, graceMs: number): void {
    const state = this.#state;
    const session = this.session;
    switch (state.kind) {
      case 'draining':
      case 'stopped':
        return;
      case 'new':
        this.#become({ kind: 'stopped', reason });
        this.#registered.reject(new WorkerStoppedError(reason));
        this.#stop.resolve(reason);
        return;
      case 'connecting':
      case 'lost':
        state.abort.abort();
        break;
    }
    const hurry = new AbortController();
    this.#become({ kind: 'draining', session, reason, hurry });
    this.#log.info('worker drains', { reason, grace_ms: graceMs, held: session?.work.held ?? 0 });
    void (async () => {
      await session?.drain(reason, graceMs, hurry.signal);
      await this.#finish(reason);
    })();
  }

  async #finish(reason: string): Promise<void> {
    await this.#heartbeat?.close();
    await this.#options.health?.close();
    await this.#server?.close({ graceMs: 1_000 });
    for (const executor of this.#options.executors) {
      try {
        await executor.close?.();
      } catch (error) {
        this.#log.warn('executor did not close', { executor: executor.type, error });
      }
    }
    this.#connection.close();
    this.#become({ kind: 'stopped', reason });
    this.#registered.reject(new WorkerStoppedError(reason));
    this.#stop.resolve(reason);
  }

  // A method, because the compiler does not know that the state changes while something is awaited.
  #is(kind: State['kind']): boolean {
    return this.#state.kind === kind;
  }

  #become(next: State): void {
    const from = this.#state.kind;
    if (!transitions[from].includes(next.kind)) {
      // A defect of this file: no input leads here.
      throw new TypeError(`a worker cannot go from ${from} to ${next.kind}`);
    }
    this.#state = next;
    this.#log.debug('worker state', { from, to: next.kind });
  }

  async #serve(): Promise<void> {
    const connection = this.#connection;
    const port = this.#options.servicePort === undefined ? 0 : this.#options.servicePort;
    if (port === null) {
      return;
    }
    this.#server = await serve({
      host: this.#options.serviceHost ?? '127.0.0.1',
      port,
      services: [WorkerService],
      corsOrigins: this.#options.corsOrigins ?? 'none',
      onError: (error, where) => this.#log.error('service failed', { error, where }),
      routes: (router, { closing }) =>
        router.service(
          WorkerService,
          workerService({
            name: this.#options.name,
            namespace: this.#options.namespace ?? '',
            version: this.#options.version,
            get masterUrl() {
              return connection.url;
            },
            runtime: this,
            capabilities: () => this.#capabilities(),
            shared: this.#shared,
            load: createLoadMeter(),
            health: this.#options.health,
            hub: this.#hub,
            tasks: connection.tasks,
            closing,
          }),
        ),
    });
  }

  /** What the machine has, so far as it says so soon. What comes later is announced then: a driver that hangs holds up no start. */
  async #detect(): Promise<void> {
    const { health, tools = [] } = this.#options;
    let isLate = false;
    const asked = Promise.resolve(tools).then((found) => {
      this.#tools = found;
      if (isLate) {
        void this.#announceKinds();
      }
    });
    await Promise.all([health?.start(detectWithinMs), Promise.race([asked, pauseFor(detectWithinMs)])]);
    isLate = true;
  }

  #capabilities(): WorkerCapabilities {
    const { executors, capabilities } = this.#options;
    const gpus = this.#options.health?.gpus.map(gpuMessage) ?? capabilities.gpus ?? [];
    return create(WorkerCapabilitiesSchema, {
      ...capabilities,
      gpus,
      // Who names no classes takes work for processors; with devices, for those, too.
      taskClasses:
        (capabilities.taskClasses ?? []).length === 0 && gpus.length > 0
          ? [TaskClass.CPU_SHORT, TaskClass.CPU_LONG, TaskClass.GPU]
          : (capabilities.taskClasses ?? []),
      tools: this.#tools.length > 0 ? this.#tools.map(toolMessage) : (capabilities.tools ?? []),
      tags: [...(capabilities.tags ?? []), ...executors.flatMap((executor) => executor.tags ?? [])],
      executors: executors.map((executor) => executor.type),
      kinds: executors.flatMap((executor) => executor.kinds ?? []),
    });
  }

  #request() {
    return create(RegisterWorkerRequestSchema, {
      namespace: this.#options.namespace ?? '',
      name: this.#options.name,
      instanceId: this.#instanceId,
      protocolVersion: this.#protocolVersion,
      version: this.#options.version,
      capabilities: this.#capabilities(),
      serviceUrl: this.url ?? '',
      metadata: { ...this.#options.metadata },
      functions: this.#options.executors.flatMap((executor) => executor.functions ?? []),
    });
  }

  #onMove(url: string, from: string): void {
    this.#log.info('master changed', { from, to: url });
    // A master that knew the session before the change remembers what it was told then.
    if (this.#newKinds !== undefined && this.#newKinds === this.session) {
      void this.#announceKinds();
    }
  }

  /** Kinds came or went while a session lives: registering again with the same instance id keeps the session. */
  async #announceKinds(): Promise<void> {
    if (this.#state.kind !== 'registered') {
      return;
    }
    this.#newKinds = this.#state.session;
    this.#announceAgain = true;
    if (this.#announcing) {
      return;
    }
    this.#announcing = true;
    const { master, atAny } = this.#connection;
    try {
      while (this.#announceAgain && this.#is('registered')) {
        this.#announceAgain = false;
        await atAny(() => master.registerWorker(this.#request(), { timeoutMs: 10_000 }));
        this.#log.info('worker kinds announced', { kinds: this.#capabilities().kinds });
      }
    } catch (error) {
      this.#log.warn('worker kinds not announced', { reason: describe(ConnectError.from(error)) });
    } finally {
      this.#announcing = false;
    }
  }
}

function pauseFor(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function urlsOf({ masterUrl }: WorkerRuntimeOptions): readonly string[] {
  return typeof masterUrl === 'string' ? [masterUrl] : masterUrl;
}

function validate(options: WorkerRuntimeOptions): void {
  const problems: string[] = [];
  const urls = urlsOf(options);
  if (urls.length === 0) {
    problems.push('it has no master');
  }
  for (const url of urls) {
    if (URL.parse(url)?.protocol !== 'http:') {
      problems.push(`the master's URL "${url}" is not of the form http://host:port`);
    }
  }
  if (options.executors.length === 0) {
    problems.push('it has no executors');
  }
  if (options.name === '' || options.name.length > 200 || /[\u0000-\u001f\u007f]/.test(options.name)) {
    problems.push('its name is not 1 to 200 characters without control characters');
  }
  const { slots } = options.capabilities;
  if (!Number.isInteger(slots) || slots < 1 || slots > 100_000) {
    problems.push(`slots is ${slots}, not a whole number from 1 to 100000`);
  }
  if (problems.length > 0) {
    throw new WorkerOptionsError(problems);
  }
}
