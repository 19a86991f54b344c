import { SystemService, type Worker } from '@baton/contract';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type BreakerView, breakerView } from './breaker-view.ts';
import { type CallOptions, type CallSettings, callOnce, callRepeatably, requestOptions } from './calls/call.ts';
import { BatonError } from './calls/error.ts';
import { type List, listOf, type PageOptions } from './calls/pages.ts';
import { optionalDate, optionalMs } from './calls/time.ts';
import { type HealthSampleView, healthSampleView, type MachineHealthView, machineHealthView } from './machine-view.ts';
import {
  type BreakerStateName,
  breakerStateName,
  type TaskClassName,
  taskClassName,
  type WorkerStateName,
  workerStateName,
} from './words.ts';
import { streamWorkerLogs, type WorkerLogLine, type WorkerLogOptions } from './worker-logs.ts';

export interface HealthView {
  /** Every part that is needed to serve is healthy. */
  readonly healthy: boolean;
  readonly version: string;
  readonly parts: readonly {
    readonly name: string;
    readonly healthy: boolean;
    readonly message: string;
    readonly latencyMs?: number;
  }[];
}

export interface MetricView {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly help: string;
  /** counter or gauge. */
  readonly type: string;
}

export interface InfoView {
  readonly version: string;
  readonly protocolVersion: number;
  readonly schemaVersion: number;
  readonly postgresVersion: string;
  readonly masterId: string;
  readonly uptimeMs?: number;
}

export interface WorkerView {
  readonly name: string;
  readonly namespace: string;
  readonly sessionId: string;
  readonly state: WorkerStateName;
  readonly version: string;
  /** Where WorkerService is served, if it is. */
  readonly serviceUrl?: string;
  readonly registerTime?: Date;
  /** Since the last renewal. */
  readonly lastHeardMs?: number;
  /** Leases it holds. */
  readonly leases: number;
  readonly slots: number;
  readonly taskClasses: readonly TaskClassName[];
  readonly tags: readonly string[];
  readonly executors: readonly string[];
  readonly kinds: readonly string[];
  readonly queues: readonly string[];
  readonly hostname?: string;
  readonly pid?: number;
  /** As Node names it: linux, darwin, win32. */
  readonly os?: string;
  readonly arch?: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly gpus: readonly {
    readonly uuid: string;
    /** A slice of a device. */
    readonly mig: boolean;
    readonly model: string;
    readonly memoryBytes: number;
    /** Reported by a declared simulation and not by a device. */
    readonly simulated: boolean;
  }[];
  /** Programs on its PATH; without a version: it did not say. */
  readonly tools: readonly { readonly name: string; readonly version?: string }[];
  /** The newest that it told of its machine. */
  readonly health?: MachineHealthView;
  readonly metrics?: {
    readonly cpuPercent: number;
    readonly memoryPercent: number;
    readonly tasksCompleted: number;
    readonly tasksFailed: number;
    readonly running: number;
    readonly loopLagMs: number;
  };
}

/** The state of the installation. Every call rejects with `BatonError`. */
export class System {
  readonly #client: Client<typeof SystemService>;
  readonly #settings: CallSettings;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(SystemService, transport);
    this.#settings = settings;
  }

  /** Measured now, part by part. */
  async health(options?: CallOptions): Promise<HealthView> {
    const { healthy, version, parts } = await callRepeatably(this.#settings, options, () =>
      this.#client.getHealth({}, requestOptions(this.#settings, options)),
    );
    return {
      healthy,
      version,
      parts: parts.map((part) => ({
        name: part.name,
        healthy: part.healthy,
        message: part.message,
        latencyMs: optionalMs(part.latency),
      })),
    };
  }

  /** `names`: exact, or prefixes ending in `*`; default all. An unknown name is an error. */
  async metrics(names: readonly string[] = [], options?: CallOptions): Promise<readonly MetricView[]> {
    const { metrics } = await callRepeatably(this.#settings, options, () =>
      this.#client.getMetrics({ names: [...names] }, requestOptions(this.#settings, options)),
    );
    return metrics.map(({ name, labels, value, help, type }) => ({ name, labels, value, help, type }));
  }

  async info(options?: CallOptions): Promise<InfoView> {
    const info = await callRepeatably(this.#settings, options, () =>
      this.#client.getInfo({}, requestOptions(this.#settings, options)),
    );
    return {
      version: info.version,
      protocolVersion: info.protocolVersion,
      schemaVersion: info.schemaVersion,
      postgresVersion: info.postgresVersion,
      masterId: info.masterId,
      uptimeMs: optionalMs(info.uptime),
    };
  }
}

/** Workers, as the master knows them. Every call rejects with `BatonError`. */
export class Workers {
  readonly #client: Client<typeof SystemService>;
  readonly #settings: CallSettings;
  readonly #connectTo: (url: string) => Transport;

  constructor(transport: Transport, settings: CallSettings, connectTo: (url: string) => Transport) {
    this.#client = createClient(SystemService, transport);
    this.#settings = settings;
    this.#connectTo = connectTo;
  }

  /** `includeGone`: also those that left or were lost. */
  list(options?: PageOptions & CallOptions & { readonly includeGone?: boolean }): List<WorkerView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { workers, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listWorkers(
          { namespace, pageSize, pageToken, includeGone: options?.includeGone ?? false },
          requestOptions(this.#settings, options),
        ),
      );
      return { items: workers.map(workerView), nextPageToken };
    });
  }

  /** One worker, gone or not, with samples of its machine's health, one a minute, of the last `historyMinutes` (at most 1 440, default none). */
  async get(
    name: string,
    options?: CallOptions & { readonly historyMinutes?: number },
  ): Promise<{ readonly worker: WorkerView; readonly history: readonly HealthSampleView[] }> {
    const { namespace } = this.#settings;
    const { worker, history } = await callRepeatably(this.#settings, options, () =>
      this.#client.getWorker(
        { namespace, name, historyMinutes: options?.historyMinutes ?? 0 },
        requestOptions(this.#settings, options),
      ),
    );
    return { worker: workerView(worker!), history: history.map(healthSampleView) };
  }

  /**
   * What runs on a worker writes, of one task or of all, from the worker itself: it has to be reachable from here. Its memory is short, and
   * who reads too slowly misses lines; `tasks.logs` has them all. Goes on by itself when the connection breaks.
   *
   * Throws `BatonError`: not_found TASK_NOT_HERE for a task that is not there; failed_precondition WORKER_NOT_REACHABLE where the worker is
   * gone, or serves nothing.
   */
  async *logs(name: string, options: WorkerLogOptions = {}): AsyncGenerator<WorkerLogLine, void, undefined> {
    const { worker } = await this.get(name, { signal: options.signal });
    const isGone = worker.state === 'stopped' || worker.state === 'lost';
    if (isGone || worker.serviceUrl === undefined)
      throw new BatonError({
        code: 'failed_precondition',
        reason: 'WORKER_NOT_REACHABLE',
        message: `worker ${name} ${isGone ? `is ${worker.state}` : 'serves nothing (BATON_WORKER_PORT)'}; the lines of a task are at the master, too`,
      });
    yield* streamWorkerLogs(this.#connectTo(worker.serviceUrl), this.#settings, options);
  }

  /** Circuit breakers that are open or half-open, by worker and device. `includeClosed`: also those that have opened before, or count failures now. */
  async breakers(
    options?: CallOptions & { readonly worker?: string; readonly includeClosed?: boolean },
  ): Promise<readonly BreakerView[]> {
    const { namespace } = this.#settings;
    const { breakers } = await callRepeatably(this.#settings, options, () =>
      this.#client.listBreakers(
        { namespace, worker: options?.worker, includeClosed: options?.includeClosed },
        requestOptions(this.#settings, options),
      ),
    );
    return breakers.map(breakerView);
  }

  /** Closes a breaker, whatever it is: failures before now no longer count. Gives its state before. `device`: default the worker itself. */
  async resetBreaker(
    worker: string,
    options?: CallOptions & { readonly device?: string },
  ): Promise<{ readonly before: BreakerStateName }> {
    const { namespace } = this.#settings;
    const { before } = await callOnce(() =>
      this.#client.resetBreaker(
        { namespace, worker, device: options?.device },
        requestOptions(this.#settings, options),
      ),
    );
    return { before: breakerStateName(before) };
  }

  /** Tells a worker to take no new work, finish and leave; gives the leases that it still holds. */
  async drain(name: string, reason = '', options?: CallOptions): Promise<{ readonly leases: number }> {
    const { namespace } = this.#settings;
    const { leases } = await callOnce(() =>
      this.#client.drainWorker({ namespace, name, reason }, requestOptions(this.#settings, options)),
    );
    return { leases };
  }
}

function workerView(worker: Worker): WorkerView {
  const { capabilities, metrics } = worker;
  return {
    name: worker.name,
    namespace: worker.namespace,
    sessionId: worker.sessionId,
    state: workerStateName(worker.state),
    version: worker.version,
    serviceUrl: worker.serviceUrl || undefined,
    registerTime: optionalDate(worker.registerTime),
    lastHeardMs: optionalMs(worker.lastHeard),
    leases: worker.leases,
    slots: capabilities?.slots ?? 0,
    taskClasses: capabilities?.taskClasses.map(taskClassName) ?? [],
    tags: capabilities?.tags ?? [],
    executors: capabilities?.executors ?? [],
    kinds: capabilities?.kinds ?? [],
    queues: capabilities?.queues ?? [],
    hostname: capabilities?.hostname || undefined,
    pid: capabilities?.pid || undefined,
    os: capabilities?.os || undefined,
    arch: capabilities?.arch || undefined,
    cpus: capabilities?.cpus ?? 0,
    memoryBytes: Number(capabilities?.memoryBytes ?? 0n),
    gpus:
      capabilities?.gpus.map(({ uuid, model, memoryBytes, simulated, mig }) => ({
        uuid,
        model,
        memoryBytes: Number(memoryBytes),
        simulated,
        mig,
      })) ?? [],
    tools: capabilities?.tools.map((tool) => ({ name: tool.name, version: tool.version || undefined })) ?? [],
    health: worker.health && machineHealthView(worker.health),
    metrics: metrics && {
      cpuPercent: metrics.cpuPercent,
      memoryPercent: metrics.memoryPercent,
      tasksCompleted: Number(metrics.tasksCompleted),
      tasksFailed: Number(metrics.tasksFailed),
      running: metrics.running,
      loopLagMs: metrics.loopLagMs,
    },
  };
}
