import {
  type FailureType,
  LeaseSchema,
  type MasterService,
  type Offer,
  type Orders as OrdersMessage,
  OrdersSchema,
  PayloadEncoding,
  RefusedResultSchema,
  type TaskClass,
  type TaskResult,
} from '@baton/contract';
import { EXECUTOR_TYPES, type ExecutorType, type Failure, Refusal, unstorableAt } from '@baton/domain';
import {
  type Assignment,
  type Engine,
  type OfferRoom,
  OLDEST_PROTOCOL_VERSION,
  type Orders,
  type Outcome,
  PROTOCOL_VERSION,
} from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { artifactRefs } from '../messages/artifact-messages.ts';
import { checkIds } from '../messages/check-ids.ts';
import { durationFromMs } from '../messages/durations.ts';
import { environmentMessage, executorMessage } from '../messages/executor-messages.ts';
import { toldHealth } from '../messages/health-messages.ts';
import { resourcesMessage } from '../messages/resource-messages.ts';
import { blobMessage } from '../messages/task-messages.ts';
import { failureTypes, taskClasses, wordOf } from '../messages/words.ts';
import { callStream } from '../wire/call-stream.ts';
import { type ApiOptions, eitherAborts } from '../wire/options.ts';
import { checkpointHandlers } from './checkpoint-handlers.ts';
import { functionDefinition, journalHandlers } from './journal-handlers.ts';
import { masterStreams } from './stream-handlers.ts';

export function masterService(engine: Engine, options: ApiOptions): Partial<ServiceImpl<typeof MasterService>> {
  const { sessions } = engine;
  const { settings } = engine.env;
  const service: Partial<ServiceImpl<typeof MasterService>> = {
    async registerWorker(request) {
      const protocolVersion = request.protocolVersion || OLDEST_PROTOCOL_VERSION;
      if (protocolVersion < OLDEST_PROTOCOL_VERSION || protocolVersion > PROTOCOL_VERSION)
        throw new Refusal(
          'failed_precondition',
          'PROTOCOL_VERSION',
          `the worker speaks protocol ${protocolVersion}, this master ${OLDEST_PROTOCOL_VERSION} to ${PROTOCOL_VERSION}: bring both to versions that are at most one apart`,
        );
      const c = request.capabilities!;
      const unknown = c.executors.filter((e) => !EXECUTOR_TYPES.includes(e as ExecutorType));
      if (unknown.length > 0)
        throw new Refusal('invalid_argument', 'INVALID_REQUEST', `unknown executors: ${unknown.join(', ')}`, {
          violations: [{ field: 'capabilities.executors', description: `must be among ${EXECUTOR_TYPES.join(', ')}` }],
        });
      const { sessionId } = await sessions.register(request.namespace || 'default', {
        name: request.name,
        instanceId: request.instanceId,
        serviceUrl: request.serviceUrl,
        version: request.version,
        metadata: request.metadata,
        capabilities: {
          taskClasses: c.taskClasses
            .map((value: TaskClass) => wordOf(taskClasses, value))
            .filter((w) => w !== undefined),
          tags: c.tags,
          executors: c.executors as ExecutorType[],
          kinds: c.kinds,
          queues: c.queues,
          slots: c.slots,
          protocolVersion,
          os: c.os,
          arch: c.arch,
          cpus: c.cpus,
          memoryBytes: Number(c.memoryBytes),
          gpus: c.gpus.map((g) => ({
            uuid: g.uuid,
            model: g.model,
            memoryBytes: Number(g.memoryBytes),
            simulated: g.simulated,
            mig: g.mig,
            migParentUuid: g.migParentUuid,
          })),
          hostname: c.hostname,
          pid: c.pid,
          tools: c.tools.map(({ name, version }) => ({ name, version })),
        },
      });
      if (request.functions.length > 0)
        await engine.functions.register(
          await engine.lanes.namespaceId(request.namespace || 'default'),
          request.functions.map(functionDefinition),
        );
      return {
        sessionId,
        masterId: options.masterId,
        protocolVersion: PROTOCOL_VERSION,
        leaseTtl: durationFromMs(settings.leaseTtlMs),
        heartbeatInterval: durationFromMs(settings.heartbeatIntervalMs),
        longPoll: durationFromMs(settings.longPollMs),
        drainGrace: durationFromMs(settings.drainGraceMs),
        maxResultBytes: BigInt(settings.maxResultBytes),
      };
    },

    async exchange(request, context) {
      checkIds([request.sessionId], 'session_id');
      checkIds(
        request.results.map((r) => r.taskId),
        'results.task_id',
      );
      const output = await sessions.exchange(
        {
          sessionId: request.sessionId,
          results: request.results.map((r) => ({
            taskId: r.taskId,
            epoch: r.epoch,
            outcome: outcomeOf(r),
            ranUs: Number(r.ranUs),
          })),
          offer: request.offer
            ? { number: request.offer.number, freeSlots: request.offer.freeSlots, room: roomOf(request.offer) }
            : null,
          waitMs: request.waitMs,
        },
        eitherAborts(context.signal, options.closing),
      );
      return {
        refused: output.refused.map((r) => create(RefusedResultSchema, r)),
        leases: output.assignments.map(leaseMessage),
        orders: ordersMessage(output.orders),
      };
    },

    async heartbeat(request) {
      checkIds([request.sessionId], 'session_id');
      checkIds(
        request.held.map((h) => h.taskId),
        'held.task_id',
      );
      checkIds(
        request.signs.map((s) => s.taskId),
        'signs.task_id',
      );
      const output = await sessions.heartbeat({
        sessionId: request.sessionId,
        number: request.number,
        count: request.digest?.count ?? 0,
        xor: request.digest?.xor ?? 0n,
        held: request.held.map((h) => ({
          taskId: h.taskId,
          epoch: h.epoch,
          started: h.started,
          ranMs: Number(h.ranMs),
        })),
        heldIsComplete: request.heldIsComplete,
        signs: request.signs.map((s) => ({
          taskId: s.taskId,
          epoch: s.epoch,
          silentMs: Number(s.silentMs),
          timeoutMs: s.progressTimeoutMs === 0n ? null : Number(s.progressTimeoutMs),
          fraction: s.fraction >= 0 && s.fraction <= 1 ? s.fraction : null,
          message: s.message === '' ? null : s.message,
        })),
        draining: request.draining,
        metrics: request.metrics
          ? {
              cpuPercent: request.metrics.cpuPercent,
              memoryPercent: request.metrics.memoryPercent,
              tasksCompleted: Number(request.metrics.tasksCompleted),
              tasksFailed: Number(request.metrics.tasksFailed),
              running: request.metrics.running,
              loopLagMs: request.metrics.loopLagMs,
            }
          : null,
        health: request.health ? toldHealth(request.health) : null,
      });
      return {
        leaseTtl: durationFromMs(output.leaseTtlMs),
        sendHeld: output.sendHeld,
        lost: output.lost,
        orders: ordersMessage(output.orders),
      };
    },

    async appendLogs(request) {
      checkIds([request.sessionId], 'session_id');
      checkIds(
        request.lines.map((l) => l.taskId),
        'lines.task_id',
      );
      const taken = await Promise.all(
        request.lines.map((line) =>
          engine.appendLogs({
            sessionId: request.sessionId,
            taskId: line.taskId,
            epoch: line.epoch,
            attempt: line.attempt,
            sequence: line.sequence.toString(),
            atMs: line.time ? timestampMs(line.time) : engine.env.now(),
            stream: line.stream || 'log',
            text: line.text.replaceAll('\u0000', '\ufffd'),
          }),
        ),
      );
      return { refused: taken.filter((ok) => !ok).length };
    },

    ...masterStreams(engine),
    ...checkpointHandlers(engine),
    ...journalHandlers(engine),

    async leave(request) {
      checkIds([request.sessionId], 'session_id');
      return sessions.leave(request.sessionId, request.reason || 'left');
    },

    callStream: (requests, context) =>
      callStream({ exchange: service.exchange!, appendJournal: service.appendJournal! }, options, requests, context),
  };
  return service;
}

function outcomeOf(result: TaskResult): Outcome {
  const { outcome } = result;
  switch (outcome.case) {
    case 'success': {
      const { output, blob, artifacts } = outcome.value;
      const encoding = (blob ?? outcome.value).encoding === PayloadEncoding.BYTES ? 2 : 1;
      const unstorable = encoding === 1 ? unstorableAt(output, 'result') : null;
      if (unstorable !== null) return { type: 'failure', failure: unstorableResult(unstorable) };
      const files = Object.entries(artifacts).map(([name, { sha256 }]) => ({ name, sha256 }));
      return {
        type: 'success',
        output,
        encoding,
        ...(blob && { outputBlob: blob.sha256 }),
        ...(files.length > 0 && { artifacts: files }),
      };
    }
    case 'failure': {
      const f = outcome.value;
      return {
        type: 'failure',
        failure: {
          type: wordOf(failureTypes, f.type as FailureType) ?? 'UNKNOWN',
          message: f.message.slice(0, 65_536),
          ...(f.exceptionType && { exceptionType: f.exceptionType.slice(0, 1_024) }),
          ...(f.stack && { stack: f.stack.slice(0, 65_536) }),
          ...(f.nonRetryable && { nonRetryable: true }),
          ...(f.retryAfter && { retryAfterMs: durationMs(f.retryAfter) }),
          ...(f.device && { device: f.device.slice(0, 200) }),
        },
      };
    }
    case 'cancelled':
      return { type: 'cancelled' };
    case 'returned':
      return { type: 'returned' };
    case 'suspended': {
      const { wakes, dueTime } = outcome.value;
      return { type: 'suspended', wakes: wakes.toString(), dueAtMs: dueTime ? timestampMs(dueTime) : null };
    }
    default:
      throw new Refusal('invalid_argument', 'INVALID_REQUEST', `the result of task ${result.taskId} has no outcome`, {
        violations: [
          {
            field: 'results.outcome',
            description: 'one of success, failure, cancelled, returned, suspended is required',
          },
        ],
      });
  }
}

/** Another attempt would return the same. */
function unstorableResult(place: string): Failure {
  return {
    type: 'EVALUATION_ERROR',
    message: `RESULT_NOT_STORABLE: ${place} is a text with NUL or a lone surrogate, which JSON here may not contain; return bytes instead`,
    nonRetryable: true,
  };
}

/** What a worker has free; null: it does not say, and gets no tasks with resources. */
function roomOf(offer: Offer): OfferRoom | null {
  const { free, devices, warm, resourceSlots, nextDevices } = offer;
  if (!free) return null;
  return {
    cpus: Math.max(0, free.cpus ?? 0) || 0,
    memoryBytes: Math.max(0, Number(free.memoryBytes ?? 0n)),
    devices: devices.map((d) => ({ uuid: d.uuid, freeMemoryBytes: Number(d.freeMemoryBytes) })),
    nextDevices,
    warm,
    resourceSlots: Math.min(resourceSlots, offer.freeSlots),
  };
}

const EMPTY = new Uint8Array();

function leaseMessage(a: Assignment) {
  return create(LeaseSchema, {
    taskId: a.taskId,
    epoch: a.epoch,
    attempt: a.attempt,
    maxAttempts: a.maxAttempts,
    kind: a.kind,
    executor: executorMessage(a.executor),
    ...(a.environment && { environment: environmentMessage(a.environment) }),
    ...(a.artifacts.length > 0 && { artifacts: artifactRefs(a.artifacts) }),
    input: a.input ?? EMPTY,
    encoding: a.encoding as number as PayloadEncoding,
    startToCloseMs: BigInt(a.startToCloseMs),
    runId: a.runId ?? '',
    nodeId: a.nodeId ?? '',
    progressTimeoutMs: BigInt(a.progressTimeoutMs ?? 0),
    checkpoint: BigInt(a.checkpoint),
    ...(a.resources && { resources: resourcesMessage(a.resources) }),
    ...(a.devices.length > 0 && { devices: [...a.devices] }),
    ...(a.inputBlob && { inputBlob: blobMessage(a.inputBlob, a.encoding) }),
  });
}

function ordersMessage(orders: Orders): OrdersMessage | undefined {
  const { cancels, drain, shutdown, recall, quarantinedDevices } = orders;
  if (cancels.length === 0 && !drain && !shutdown && recall === 0 && quarantinedDevices.length === 0) return undefined;
  return create(OrdersSchema, orders);
}
