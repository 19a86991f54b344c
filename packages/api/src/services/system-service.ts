import {
  GpuSchema,
  type SystemService,
  ToolSchema,
  WorkerCapabilitiesSchema,
  WorkerMetricsSchema,
  WorkerSchema,
} from '@baton/contract';
import type { TaskClass } from '@baton/domain';
import { isStorableText, Refusal } from '@baton/domain';
import {
  type ClientEngine,
  COUNTERS,
  type CounterName,
  countLive,
  listWorkers,
  livingHealth,
  PROTOCOL_VERSION,
  readHealthMinutes,
  readVitals,
  type Sessions,
  type Vitals,
  type WorkerRow,
} from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { durationFromMs } from '../messages/durations.ts';
import { healthMessage, minuteMessage } from '../messages/health-messages.ts';
import type { MetricValue } from '../messages/metric-value.ts';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';
import { taskClasses, workerState } from '../messages/words.ts';
import { MOST_WORKERS, WORKER_GAUGES, workerMetrics } from '../messages/worker-metrics.ts';
import type { ApiOptions } from '../wire/options.ts';
import { breakerHandlers } from './breaker-handlers.ts';
import { queueHandlers } from './queue-handlers.ts';

/** Without a sweep for this long, nobody notices dead workers. */
const SWEEP_ALARM_MS = 10_000;

export interface HealthPart {
  name: string;
  healthy: boolean;
  message: string;
  latencyMs: number;
}

/** Every part measured now. `needed` parts decide whether the whole is healthy. */
export async function measureHealth(engine: ClientEngine): Promise<{ healthy: boolean; parts: HealthPart[] }> {
  const started = performance.now();
  let vitals: Vitals;
  try {
    vitals = await readVitals(engine.env.pools.api);
  } catch (error) {
    const parts = [
      { name: 'postgres', healthy: false, message: String(error), latencyMs: performance.now() - started },
    ];
    return { healthy: false, parts };
  }
  const latencyMs = performance.now() - started;
  const sweeping = vitals.sinceSweepMs < SWEEP_ALARM_MS;
  const parts = [
    { name: 'postgres', healthy: true, message: `PostgreSQL ${vitals.postgresVersion}`, latencyMs },
    { name: 'schema', healthy: vitals.schemaVersion > 0, message: `version ${vitals.schemaVersion}`, latencyMs: 0 },
    {
      name: 'sweeps',
      healthy: sweeping,
      message: `last ${(vitals.sinceSweepMs / 1000).toFixed(1)} s ago${sweeping ? '' : ': dead workers are not noticed'}`,
      latencyMs: 0,
    },
    // No worker is a fact to show, not a fault of the installation: work waits and is not lost.
    { name: 'workers', healthy: true, message: `${vitals.workers} connected`, latencyMs: 0 },
  ];
  return { healthy: parts.every((p) => p.healthy), parts };
}

/** Names of the gauges that are read from Postgres. */
const GAUGES = {
  baton_tasks_ready: 'Tasks that may be leased now (counted up to 100 000).',
  baton_tasks_waiting: 'Tasks that are due later (counted up to 100 000).',
  baton_tasks_leased: 'Tasks that a worker holds.',
  baton_workers: 'Sessions of workers that are alive.',
  baton_breakers_open: 'Circuit breakers of workers and devices that are open or half-open.',
} as const;

/** @throws Refusal UNKNOWN_METRIC */
export async function readMetrics(
  engine: ClientEngine,
  options: ApiOptions,
  names: readonly string[],
): Promise<MetricValue[]> {
  const own = options.processMetrics?.() ?? [];
  const all = [...Object.keys(COUNTERS), ...Object.keys(GAUGES), ...WORKER_GAUGES, ...own.map((m) => m.name)];
  const wants = (metric: string) =>
    names.length === 0 || names.some((n) => (n.endsWith('*') ? metric.startsWith(n.slice(0, -1)) : n === metric));
  const unknown = names.filter((n) => !all.some((m) => (n.endsWith('*') ? m.startsWith(n.slice(0, -1)) : n === m)));
  if (unknown.length > 0)
    throw new Refusal(
      'invalid_argument',
      'UNKNOWN_METRIC',
      `no metric is named ${unknown.join(', ')}; there are: ${all.join(', ')}`,
      {
        violations: unknown.map((n) => ({ field: 'names', description: `no metric is named ${n}` })),
      },
    );
  const values: MetricValue[] = [];
  const counters = engine.counters.read();
  for (const name of Object.keys(COUNTERS) as CounterName[])
    if (wants(name)) values.push({ name, labels: {}, value: counters[name], help: COUNTERS[name], type: 'counter' });
  if (Object.keys(GAUGES).some(wants)) {
    const live = await countLive(engine.env.pools.api);
    const gauges: Record<keyof typeof GAUGES, number> = {
      baton_tasks_ready: live.ready,
      baton_tasks_waiting: live.waiting,
      baton_tasks_leased: live.leases,
      baton_workers: live.sessions,
      baton_breakers_open: live.breakers,
    };
    for (const name of Object.keys(GAUGES) as (keyof typeof GAUGES)[])
      if (wants(name)) values.push({ name, labels: {}, value: gauges[name], help: GAUGES[name], type: 'gauge' });
  }
  if (WORKER_GAUGES.some(wants))
    values.push(...workerMetrics(await livingHealth(engine.env.pools.api, MOST_WORKERS), wants));
  for (const metric of own) if (wants(metric.name)) values.push({ ...metric, labels: {} });
  return values;
}

/** @param sessions absent at the edge: draining a worker is then refused */
export function systemService(
  engine: ClientEngine,
  sessions: Sessions | null,
  options: ApiOptions,
): Partial<ServiceImpl<typeof SystemService>> {
  return {
    ...breakerHandlers(engine),
    ...queueHandlers(engine),

    async getHealth() {
      const { healthy, parts } = await measureHealth(engine);
      return {
        healthy,
        version: options.version,
        parts: parts.map((p) => ({
          name: p.name,
          healthy: p.healthy,
          message: p.message,
          latency: durationFromMs(p.latencyMs),
        })),
      };
    },

    async getMetrics(request) {
      return { metrics: await readMetrics(engine, options, request.names), time: timestampFromMs(engine.env.now()) };
    },

    async getInfo() {
      const vitals = await readVitals(engine.env.pools.api);
      return {
        version: options.version,
        protocolVersion: PROTOCOL_VERSION,
        schemaVersion: vitals.schemaVersion,
        postgresVersion: vitals.postgresVersion,
        masterId: options.masterId,
        uptime: durationFromMs(options.uptimeMs()),
      };
    },

    async listWorkers(request) {
      const namespace = request.namespace || 'default';
      const limit = request.pageSize || 100;
      const list = JSON.stringify(['workers', namespace, request.includeGone]);
      const rows = await listWorkers(engine.env.pools.api, {
        namespaceId: await engine.lanes.knownNamespaceId(namespace),
        afterName: decodePageToken(list, request.pageToken) ?? '',
        limit: limit + 1,
        includeGone: request.includeGone,
      });
      return {
        workers: rows.slice(0, limit).map((row) => workerMessage(row, namespace)),
        nextPageToken: rows.length > limit ? encodePageToken(list, rows[limit - 1]!.name) : '',
      };
    },

    async getWorker(request) {
      const namespace = request.namespace || 'default';
      const sql = engine.env.pools.api;
      const namespaceId = await engine.lanes.knownNamespaceId(namespace);
      const page = { namespaceId, afterName: '', limit: 1, includeGone: true, name: request.name };
      const row = isStorableText(request.name) ? (await listWorkers(sql, page))[0] : undefined;
      if (!row)
        throw new Refusal('not_found', 'WORKER_NOT_FOUND', `no worker is named ${JSON.stringify(request.name)}`);
      const history = request.historyMinutes > 0 ? await readHealthMinutes(sql, row.id, request.historyMinutes) : [];
      return { worker: workerMessage(row, namespace), history: history.map(minuteMessage) };
    },

    async drainWorker(request) {
      if (!sessions) throw new Refusal('unimplemented', 'NOT_AT_THE_EDGE', 'workers are drained through a master');
      const namespaceId = await engine.lanes.knownNamespaceId(request.namespace || 'default');
      return sessions.drain(namespaceId, request.name, request.reason || 'drained by a client');
    },
  };
}

interface StoredGpu {
  uuid: string;
  model: string;
  memoryBytes: number;
  simulated: boolean;
  mig?: boolean;
  migParentUuid?: string;
}

function workerMessage(row: WorkerRow, namespace: string) {
  const c = row.capabilities as Record<string, never>;
  return create(WorkerSchema, {
    name: row.name,
    namespace,
    sessionId: row.sessionId,
    state: workerState(row.state, row.leases),
    capabilities: create(WorkerCapabilitiesSchema, {
      os: c.os,
      arch: c.arch,
      cpus: c.cpus,
      memoryBytes: BigInt(c.memoryBytes ?? 0),
      gpus: ((c.gpus ?? []) as StoredGpu[]).map((g) => create(GpuSchema, { ...g, memoryBytes: BigInt(g.memoryBytes) })),
      tools: ((c.tools ?? []) as { name: string; version: string }[]).map((tool) => create(ToolSchema, tool)),
      taskClasses: ((c.taskClasses ?? []) as TaskClass[]).map((w) => taskClasses[w]),
      tags: c.tags,
      executors: c.executors,
      kinds: c.kinds,
      queues: c.queues,
      slots: c.slots,
      hostname: c.hostname,
      pid: c.pid,
    }),
    ...(row.metrics && {
      metrics: create(WorkerMetricsSchema, {
        cpuPercent: row.metrics.cpuPercent,
        memoryPercent: row.metrics.memoryPercent,
        tasksCompleted: BigInt(row.metrics.tasksCompleted ?? 0),
        tasksFailed: BigInt(row.metrics.tasksFailed ?? 0),
        running: row.metrics.running,
        loopLagMs: row.metrics.loopLagMs,
      }),
    }),
    serviceUrl: row.serviceUrl,
    version: row.version,
    registerTime: timestampFromDate(row.registeredAt),
    lastHeard: durationFromMs(row.lastHeardMs),
    leases: row.leases,
    health: healthMessage(row.health),
  });
}
