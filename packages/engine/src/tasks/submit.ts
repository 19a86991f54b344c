import {
  canonicalJson,
  type FieldViolation,
  isRefusedVariable,
  isStorableText,
  type JsonValue,
  Refusal,
  type Requirements,
  type ResourceRequest,
  type RetryPolicy,
  type TaskClass,
  type TaskEnvironment,
} from '@baton/domain';
import {
  type Encoding,
  freeExpiredKeys,
  type KeyHolder,
  type LaneKey,
  lookUpKeys,
  NEEDS_TAG,
  type NewTask,
  submitHanding,
  submitTasks,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { Artifacts, ArtifactsWanted } from '../data/artifacts.ts';
import type { Blobs } from '../data/blobs.ts';
import { sha256 } from '../data/digest.ts';
import type { Dispatcher } from '../dispatch/dispatcher.ts';
import { type Handable, storeHanding } from '../dispatch/hand-over.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import { needsOfRequest, needsViolations } from '../dispatch/needs.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { bisect, persist } from '../persist.ts';
import { protocolTags } from '../sessions/protocol.ts';
import { storedExecutor, type TaskExecutor } from './task-executor.ts';

/** What is to be done, decoded and checked against the contract's field rules. */
export interface TaskRequest {
  kind: string;
  queue?: string;
  taskClass?: TaskClass;
  tags?: readonly string[];
  executor?: TaskExecutor;
  environment?: TaskEnvironment;
  resources?: ResourceRequest;
  requirements?: Requirements;
  input?: Uint8Array | null;
  encoding?: Encoding;
  priority?: number;
  retry?: Partial<RetryPolicy>;
  startToCloseMs?: number;
  scheduleToStartMs?: number;
  progressTimeoutMs?: number;
  /** SHA-256 (hex) of a committed blob, instead of `input`. */
  inputBlob?: string;
  /** Files that it is handed, by name. */
  artifacts?: ArtifactsWanted;
  /** The ended task that this one sends again. */
  retryOf?: string;
  /** Wall clock, ms since the epoch. */
  runAtMs?: number;
  idempotencyKey?: string;
  /** Among what the key is told apart; default: the kind. */
  idempotencyScope?: string;
  /** How long the key stands for its task; default: the installation's. */
  idempotencyTtlMs?: number;
  labels?: Record<string, string>;
}

export interface Submitted {
  taskId: string;
  deduplicated: boolean;
}

export interface Submitter {
  /** @throws Refusal */
  submit(namespace: string, request: TaskRequest): Promise<Submitted>;
}

/** Tasks wait in memory for so many batches; more are refused. */
const WAITING_BATCHES = 40;
/** Batches that take longer wait for locks, or for a Postgres that does not answer. */
const STUCK_MS = 3_000;

/** A key may be freed and taken by others between two looks at it, so often. */
const MOST_TRIES = 5;

export interface SubmitSinks {
  /** The lane has something ready now. */
  onReady(laneId: number): void;
  /** Something becomes due, ms from now. */
  onDelayed(delayMs: number): void;
  /** Offers that wait for such tasks; null: none. */
  reserve: Dispatcher['reserve'];
  /** Tasks were stored, and are with workers already. */
  onHanded(): void;
}

export function createSubmitter(
  env: EngineEnvironment,
  lanes: LaneBook,
  blobs: Pick<Blobs, 'use'>,
  artifacts: Artifacts,
  counters: Counters,
  sinks: SubmitSinks,
): Submitter {
  const { settings, pools } = env;

  // One task that Postgres refuses does not touch the others of its batch, so a refusal is an answer and not an error.
  const batches = createCoalescer<NewTask, Submitted | Refusal>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (task) => (task.input?.byteLength ?? 0) + 200,
    inFlight: 2,
    shed: {
      maxWaiting: WAITING_BATCHES * settings.batchRows,
      maxWaitingBytes: WAITING_BATCHES * settings.batchBytes,
      stuckMs: STUCK_MS,
      refusal: overloaded,
    },
    run: (batch) => bisect(batch, store, (_, error) => notStorable(error)),
  });

  async function store(batch: NewTask[]): Promise<(Submitted | Refusal)[]> {
    let repeated = false;
    const {
      result: { stored },
      handed,
    } = await storeHanding(env, sinks.reserve, batch.map(toHand), (takers) =>
      submitHanding(pools.hot, batch, takers).catch((error) => {
        repeated = true;
        throw error;
      }),
    );
    const holders = await storeWhereFree(batch, stored);
    const byId = new Map<string, Submitted | Refusal>();
    for (const task of batch) {
      if (stored.has(task.id)) continue;
      if (!task.idempotency) {
        // Without a key, only an earlier try of this very batch can have stored it.
        if (!repeated) byId.set(task.id, new Refusal('unavailable', 'ID_COLLISION', 'try again'));
        continue;
      }
      const holder = holders.get(task.id);
      if (!holder) byId.set(task.id, new Refusal('unavailable', 'KEY_EXPIRED_MEANWHILE', 'try again'));
      else if (holder.id === task.id) byId.set(task.id, { taskId: task.id, deduplicated: false });
      else if (!sameBytes(holder.bodyHash, task.idempotency.bodyHash))
        byId.set(task.id, keyConflict(task.idempotency.key, holder.id));
      else byId.set(task.id, { taskId: holder.id, deduplicated: true });
    }
    const touched = new Set<number>();
    const results = batch.map((task) => {
      const other = byId.get(task.id);
      if (!other && task.dueAtMs === null && !handed.has(task.id)) touched.add(task.laneId);
      return other ?? { taskId: task.id, deduplicated: false };
    });
    for (const laneId of touched) sinks.onReady(laneId);
    if (handed.size > 0) sinks.onHanded();
    counters.add('baton_tasks_submitted_total', batch.length - byId.size);
    return results;
  }

  /**
   * Who holds the keys of those that were not stored. A key whose time is over is free, whether somebody has tidied up or not: its
   * task is stored after all, unless another master is faster at that moment.
   */
  async function storeWhereFree(batch: readonly NewTask[], stored: Set<string>): Promise<Map<string, KeyHolder>> {
    for (let tries = 1; ; tries++) {
      const refused = batch.filter((task) => task.idempotency && !stored.has(task.id));
      if (refused.length === 0) return new Map();
      const keys = refused.map((task) => ({ namespaceId: task.namespaceId, ...task.idempotency! }));
      await persist(() => freeExpiredKeys(pools.api, keys), env.random);
      const found = await persist(() => lookUpKeys(pools.api, keys), env.random);
      const free = refused.filter((_, i) => !found[i]);
      if (free.length === 0 || tries === MOST_TRIES)
        return new Map(refused.flatMap((task, i) => (found[i] ? [[task.id, found[i]]] : [])));
      for (const id of await persist(() => submitTasks(pools.hot, free), env.random)) stored.add(id);
    }
  }

  async function checkInputBlob(namespaceId: number, sha256: string): Promise<void> {
    const blob = await blobs.use(namespaceId, sha256);
    if (blob === null) throw noInputBlob(sha256);
    if (blob.sizeBytes > settings.maxBlobBytes) throw inputBlobTooLarge(blob.sizeBytes, settings.maxBlobBytes);
  }

  return {
    async submit(namespace, request) {
      checkTexts(request);
      const input = request.input ?? null;
      if (input && input.byteLength > settings.maxInputBytes)
        throw new Refusal(
          'resource_exhausted',
          'INPUT_TOO_LARGE',
          `the input has ${input.byteLength} bytes; at most ${settings.maxInputBytes} are taken`,
        );
      const namespaceId = await lanes.namespaceId(namespace);
      if (request.inputBlob !== undefined) await checkInputBlob(namespaceId, request.inputBlob);
      const files = request.artifacts && (await artifacts.admit(namespaceId, request.artifacts));
      const executor = request.executor ?? { type: 'function' };
      const key = laneKey(namespaceId, request);
      const lane = files ? await artifacts.laneFor(key, files) : await lanes.laneFor(key);
      const idempotency = request.idempotencyKey
        ? {
            scope: request.idempotencyScope ?? `task:${request.kind}`,
            key: request.idempotencyKey,
            bodyHash: await bodyHash(request),
            ttlMs: request.idempotencyTtlMs ?? settings.idempotencyTtlMs,
          }
        : null;
      const dueAtMs = request.runAtMs !== undefined && request.runAtMs > env.now() ? request.runAtMs : null;
      const id = env.ids.next();
      if (files) await artifacts.save({ taskId: id, namespaceId, inputs: files });
      const result = await batches.add({
        id,
        namespaceId,
        routeId: lane.routeId,
        laneId: lane.id,
        priority: request.priority ?? 0,
        maxAttempts: request.retry?.maxAttempts ?? settings.retry.maxAttempts,
        startToCloseMs: request.startToCloseMs ?? settings.startToCloseMs,
        encoding: request.encoding ?? 1,
        input,
        dueAtMs,
        idempotency,
        extra: extraOf(request, executor),
      });
      if (result instanceof Refusal) throw result;
      if (dueAtMs !== null) sinks.onDelayed(dueAtMs - env.now());
      if (request.scheduleToStartMs !== undefined)
        sinks.onDelayed(Math.max(0, (dueAtMs ?? 0) - env.now()) + request.scheduleToStartMs);
      if (result.deduplicated) counters.add('baton_tasks_deduplicated_total');
      return result;
    },
  };
}

/** What a worker is told of a task that may be handed over as it is stored; null: not this one. */
function toHand(task: NewTask): Handable | null {
  const { id, laneId, priority, maxAttempts, startToCloseMs, encoding, input, extra } = task;
  if (task.dueAtMs !== null || extra?.executor || extra?.inputBlob !== undefined) return null;
  if (extra?.progressTimeoutMs !== undefined) return null;
  return { taskId: id, laneId, priority, maxAttempts, startToCloseMs, encoding, input, runId: null };
}

export function laneKey(namespaceId: number, request: TaskRequest): LaneKey {
  const needs = needsOfRequest(request);
  return {
    namespaceId,
    queue: request.queue || 'default',
    kind: request.kind,
    executor: request.executor?.type ?? 'function',
    taskClass: request.taskClass ?? 'cpu_short',
    tags: [...new Set([...(request.tags ?? []).map((tag) => tag.toLowerCase()), ...protocolTags(request)])].sort(),
    ...(needs && { needs }),
  };
}

/** What most tasks do not have. */
export function extraOf(request: TaskRequest, executor: TaskExecutor): NewTask['extra'] {
  const extra: NonNullable<NewTask['extra']> = {};
  const stored = storedExecutor(executor, request.environment);
  if (stored) extra.executor = stored;
  if (request.retry && Object.keys(request.retry).some((name) => name !== 'maxAttempts')) extra.retry = request.retry;
  if (request.labels && Object.keys(request.labels).length > 0) extra.labels = request.labels;
  if (request.scheduleToStartMs !== undefined) extra.scheduleToStartMs = request.scheduleToStartMs;
  if (request.progressTimeoutMs !== undefined) extra.progressTimeoutMs = request.progressTimeoutMs;
  if (request.inputBlob !== undefined) extra.inputBlob = request.inputBlob;
  if (request.retryOf !== undefined) extra.retryOf = request.retryOf;
  return Object.keys(extra).length > 0 ? extra : null;
}

/**
 * Text columns cannot keep NUL or lone surrogates; inputs are bytes and can. Resources, requirements and variables must make sense, too.
 * @throws Refusal INVALID_REQUEST with all that is wrong
 */
export function checkTexts(request: TaskRequest): void {
  const violations: FieldViolation[] = [];
  const check = (field: string, text: string | undefined) => {
    if (text !== undefined && !isStorableText(text))
      violations.push({ field: `task.${field}`, description: 'must not contain NUL or lone surrogates' });
  };
  const checkDeep = (field: string, value: JsonValue): void => {
    if (typeof value === 'string') check(field, value);
    else if (typeof value === 'object' && value !== null) {
      for (const [key, each] of Object.entries(value)) {
        check(field, key);
        checkDeep(`${field}.${key}`, each as JsonValue);
      }
    }
  };
  check('kind', request.kind);
  check('queue', request.queue);
  check('idempotency_key', request.idempotencyKey);
  for (const [i, tag] of (request.tags ?? []).entries()) {
    check(`tags[${i}]`, tag);
    if (tag.toLowerCase().startsWith(NEEDS_TAG))
      violations.push({
        field: `task.tags[${i}]`,
        description: `begins with "${NEEDS_TAG}", which Baton itself gives`,
      });
  }
  violations.push(...needsViolations(request));
  for (const [key, value] of Object.entries(request.labels ?? {})) {
    check(`labels[${JSON.stringify(key)}]`, key);
    check(`labels[${JSON.stringify(key)}]`, value);
  }
  const { executor, environment } = request;
  if (executor?.type === 'grpc') check('grpc.address', executor.address);
  else if (executor && 'config' in executor) checkDeep(executor.type, executor.config);
  if (environment) checkDeep('environment', environment as JsonValue);
  for (const name of Object.keys(environment?.set ?? {})) {
    if (isRefusedVariable(name))
      violations.push({
        field: `task.environment.set[${JSON.stringify(name)}]`,
        description: 'cannot be set by a task: it changes what programs do',
      });
  }
  if (environment?.workingDirectory && !/^(?:\/|[A-Za-z]:[\\/])/.test(environment.workingDirectory))
    violations.push({ field: 'task.environment.working_directory', description: 'must be an absolute path' });
  if (violations.length > 0)
    throw new Refusal(
      'invalid_argument',
      'INVALID_REQUEST',
      violations.map((v) => `${v.field} ${v.description}`).join('; '),
      {
        violations,
      },
    );
}

async function bodyHash(request: TaskRequest): Promise<Uint8Array> {
  const { input, idempotencyKey: _, idempotencyScope: __, idempotencyTtlMs: ___, labels, artifacts, ...rest } = request;
  // What there was none of in the version before may be written anew; what there was is hashed as it was then.
  const around = rest.environment && { environment: canonicalJson(rest.environment as JsonValue) };
  const program = rest.executor && 'config' in rest.executor && { executor: canonicalJson(rest.executor as JsonValue) };
  const files = artifacts && {
    artifacts: Object.entries(artifacts)
      .map(([name, { sha256 }]) => [name, sha256])
      .sort(([a], [b]) => (a! < b! ? -1 : 1)),
  };
  // Maps have no order on the wire: some clients send theirs in another one each time.
  if (rest.executor?.type === 'grpc' && rest.executor.metadata)
    rest.executor = { ...rest.executor, metadata: Object.fromEntries(Object.entries(rest.executor.metadata).sort()) };
  const ordered = Object.entries({
    ...rest,
    ...files,
    ...around,
    ...program,
    labels: Object.entries(labels ?? {}).sort(),
  }).sort(([a], [b]) => (a < b ? -1 : 1));
  const head = new TextEncoder().encode(`${JSON.stringify(ordered)}\n`);
  const all = new Uint8Array(head.length + (input?.length ?? 0));
  all.set(head);
  if (input) all.set(input, head.length);
  return sha256(all);
}

/** It is read into memory. */
function inputBlobTooLarge(sizeBytes: number, mostBytes: number): Refusal {
  const description = `has ${sizeBytes} bytes; an input has at most ${mostBytes}: hand it to the task as an artifact`;
  return new Refusal('resource_exhausted', 'BLOB_TOO_LARGE', `the blob ${description}`, {
    violations: [{ field: 'task.input_blob', description }],
  });
}

function noInputBlob(sha256: string): Refusal {
  const description = `blob ${sha256} does not exist in this namespace; upload it first`;
  return new Refusal('not_found', 'BLOB_NOT_FOUND', description, {
    violations: [{ field: 'task.input_blob.sha256', description }],
  });
}

/** Nothing of the task was kept. */
function overloaded(): Refusal {
  return new Refusal('resource_exhausted', 'OVERLOADED', 'more tasks come in than can be stored now; try again later', {
    retryAfterMs: 1_000,
  });
}

function notStorable(error: unknown): Refusal {
  return new Refusal('invalid_argument', 'TASK_NOT_STORABLE', `Postgres refused the task: ${(error as Error).message}`);
}

export function keyConflict(key: string, holderId: string): Refusal {
  return new Refusal(
    'failed_precondition',
    'IDEMPOTENCY_CONFLICT',
    `the key ${JSON.stringify(key)} stands for ${holderId}, which was submitted with another body`,
    { metadata: { existing_id: holderId } },
  );
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
