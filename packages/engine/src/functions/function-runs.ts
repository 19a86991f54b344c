import { compareIds, type Failure, isId, notFound, Refusal, storableText } from '@baton/domain';
import {
  type ArtifactInput,
  type CompletedFunction,
  countWakes,
  dropAdvances,
  type Encoding,
  endFunctions,
  freeExpiredKeys,
  hex,
  insertSignal,
  lookUpKeys,
  type NewFunctionRun,
  type NewTask,
  type OpenWork,
  type RunRow,
  readFunctions,
  readOrphans,
  readRetriedEntries,
  readRunFacts,
  readSleepers,
  readWorkflow,
  reopenFunction,
  startFunctionRuns,
  storeWorkflow,
  submitTasks,
  type WorkflowRow,
  wakeDrivers,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { Artifacts } from '../data/artifacts.ts';
import { sha256 } from '../data/digest.ts';
import type { Dispatcher } from '../dispatch/dispatcher.ts';
import { type Handable, storeHanding } from '../dispatch/hand-over.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { bisect, persist } from '../persist.ts';
import { logRunEnd } from '../runs/log-run-end.ts';
import { checkTexts, extraOf, keyConflict, laneKey, sameBytes } from '../tasks/submit.ts';
import {
  FUNCTION_PROTOCOL_TAG,
  type FunctionDefinition,
  functionForm,
  readFunctionForm,
  releaseTag,
} from './function-definition.ts';
import { droppedForRetry, droppedFrom } from './function-retry.ts';
import type { JournalMaker } from './journal.ts';

export interface StartFunction {
  /** Its stored definition. */
  workflow: WorkflowRow;
  /** It was remembered: should there be a newer version by now, nothing is started, and 'outdated' is the answer. */
  isRemembered?: boolean;
  input: Uint8Array | null;
  encoding: Encoding;
  idempotencyKey: string | null;
  labels: Record<string, string> | null;
  /** Chosen before, where a start may be repeated. */
  runId?: string;
  parent?: { runId: string; nodeId: string; item?: number | null };
}

export interface SignalRequest {
  runId: string;
  name: string;
  payload: Uint8Array | null;
  encoding: Encoding;
  key: string | null;
}

/** Runs of durable functions: each is a task that drives itself, a journal, and wakes. */
export interface FunctionRuns {
  start(
    namespaceId: number,
    request: StartFunction & { isRemembered?: false },
  ): Promise<{ runId: string; deduplicated: boolean }>;
  start(namespaceId: number, request: StartFunction): Promise<{ runId: string; deduplicated: boolean } | 'outdated'>;
  /** Functions become workflows that can be started by name; a changed one is the next version. */
  register(namespaceId: number, functions: readonly FunctionDefinition[]): Promise<void>;
  /** Ends runs whose driver has ended, cancels those that were asked to stop, wakes the others. */
  advance(due: readonly { runId: string; advanceIds: readonly string[] }[]): Promise<void>;
  /** Wakes runs whose advance was lost; looks about once a minute, however often it is called. */
  wakeSleepers(): Promise<void>;
  /** @throws Refusal RUN_NOT_FOUND, RUN_ENDED, RUN_NOT_SIGNALLABLE */
  signal(namespaceId: number, signal: SignalRequest): Promise<{ deduplicated: boolean }>;
  /** The next execution of an ended run: steps that gave something are kept. Null: the run has changed meanwhile. */
  retry(run: RunRow, fromNodeIds: readonly string[]): Promise<{ execution: number; nodeIds: string[] } | null>;
  maker: JournalMaker;
  /** Hears of runs that were ended together with their functions. */
  onCompleted(ended: readonly CompletedFunction[]): void;
}

export interface FunctionRunSinks {
  onReady(laneId: number): void;
  /** Offers that wait for such tasks; null: none. */
  reserve: Dispatcher['reserve'];
  onChanged(): void;
  /** Its driver ended with it. */
  onTaskEnded(taskId: string): void;
  /** `row`: as it ended, where that is known. */
  onRunEnded(runId: string, row?: RunRow): void;
  /** A run is about to be stored, which nobody else knows of. */
  onRunBegins(runId: string, namespaceId: number): void;
  cancelTasks(namespaceId: number, taskIds: string[], reason: string): Promise<void>;
  cancelRun(namespaceId: number, runId: string, reason: string): Promise<unknown>;
  /** Starts a run of any workflow, with an id that was chosen before. */
  startChild(
    namespaceId: number,
    request: {
      runId: string;
      workflowName: string;
      input: Uint8Array | null;
      encoding: Encoding;
      idempotencyKey: string | null;
      parent: { runId: string; nodeId: string };
    },
  ): Promise<{ runId: string; deduplicated: boolean }>;
  /** Advances of these runs are to be taken up. */
  poke(): void;
}

/** What a worker is told of a driver. */
function toHand({ id, driver: { routeId: _, ...driver }, encoding, input }: NewFunctionRun): Handable {
  return { ...driver, encoding, input, runId: id };
}

const MOST_TRIES = 5;
const LOOK_EVERY_MS = 60_000;
const SLEEPERS = 500;

export function createFunctionRuns(
  env: EngineEnvironment,
  lanes: LaneBook,
  artifacts: Artifacts,
  counters: Counters,
  sinks: FunctionRunSinks,
): FunctionRuns {
  const { pools, settings } = env;

  const starts = createCoalescer<NewFunctionRun, boolean | 'outdated' | Refusal>({
    endOfTurn: env.endOfTurn,
    maxItems: settings.batchRows,
    maxBytes: settings.batchBytes,
    sizeOf: (run) => (run.input?.byteLength ?? 0) + 300,
    inFlight: 2,
    run: (batch) =>
      bisect<NewFunctionRun, boolean | 'outdated' | Refusal>(
        batch,
        async (part) => {
          const {
            result: { stored, outdated },
            handed,
          } = await storeHanding(env, sinks.reserve, part.map(toHand), (takers) =>
            startFunctionRuns(pools.hot, part, takers),
          );
          // Once for all; also for those that an earlier try stored, whose answer was lost.
          const drivers = part.map((run) => run.driver).filter(({ taskId }) => !handed.has(taskId));
          for (const laneId of new Set(drivers.map((driver) => driver.laneId))) sinks.onReady(laneId);
          sinks.onChanged();
          return part.map((run) => (outdated.has(run.id) ? 'outdated' : stored.has(run.id)));
        },
        (_, error) =>
          new Refusal('invalid_argument', 'RUN_NOT_STORABLE', `Postgres refused the run: ${(error as Error).message}`),
      ),
  });

  async function driverOf(
    namespaceId: number,
    definition: FunctionDefinition,
    release: string,
  ): Promise<NewFunctionRun['driver']> {
    const lane = await lanes.laneFor({
      ...laneKey(namespaceId, {
        kind: definition.id,
        queue: definition.queue,
        taskClass: definition.taskClass,
        tags: [
          ...definition.tags,
          FUNCTION_PROTOCOL_TAG,
          ...(release === '' ? [] : [releaseTag(definition.id, release)]),
        ],
      }),
    });
    return {
      taskId: env.ids.next(),
      routeId: lane.routeId,
      laneId: lane.id,
      priority: definition.priority,
      maxAttempts: settings.retry.maxAttempts,
      startToCloseMs: definition.startToCloseMs || settings.startToCloseMs,
    };
  }

  async function start(
    namespaceId: number,
    request: StartFunction & { isRemembered?: false },
  ): Promise<{ runId: string; deduplicated: boolean }>;
  async function start(
    namespaceId: number,
    request: StartFunction,
  ): Promise<{ runId: string; deduplicated: boolean } | 'outdated'>;
  async function start(
    namespaceId: number,
    request: StartFunction,
  ): Promise<{ runId: string; deduplicated: boolean } | 'outdated'> {
    const { workflow, input, encoding } = request;
    const definition = readFunctionForm(workflow.storedForm)!;
    const run: NewFunctionRun = {
      id: request.runId ?? env.ids.next(),
      namespaceId,
      workflowName: workflow.name,
      workflowVersion: workflow.version,
      release: definition.release,
      mustBeNewest: request.isRemembered ?? false,
      input,
      encoding,
      labels: request.labels,
      idempotency: request.idempotencyKey
        ? {
            key: request.idempotencyKey,
            bodyHash: await sha256(new TextEncoder().encode(`${encoding}\n${input ? hex(input) : ''}`)),
            ttlMs: settings.idempotencyTtlMs,
          }
        : null,
      parent: request.parent ?? null,
      driver: await driverOf(namespaceId, definition, definition.release),
    };
    // A run that another start of the same key made is another run.
    if (request.runId === undefined) sinks.onRunBegins(run.id, namespaceId);
    for (let tries = 0; ; tries++) {
      const stored = await starts.add(run);
      if (stored instanceof Refusal) throw stored;
      if (stored === 'outdated') return stored;
      // Without a key only a repeated start, of the same id, writes nothing.
      if (stored || !run.idempotency) break;
      const key = { namespaceId, scope: `run:${workflow.name}`, key: run.idempotency.key };
      await persist(() => freeExpiredKeys(pools.api, [key]), env.random);
      const [holder] = await lookUpKeys(pools.api, [key]);
      if (holder?.id === run.id) break;
      if (holder) {
        if (!sameBytes(holder.bodyHash, run.idempotency.bodyHash)) throw keyConflict(run.idempotency.key, holder.id);
        return { runId: holder.id, deduplicated: true };
      }
      if (tries >= MOST_TRIES) throw new Refusal('unavailable', 'KEY_EXPIRED_MEANWHILE', 'try again');
    }
    return { runId: run.id, deduplicated: false };
  }

  /** Nothing that a run made outlives it. */
  async function cancelOpen(run: OpenWork & { namespaceId: number }, reason: string): Promise<void> {
    if (run.taskIds.length > 0) await sinks.cancelTasks(run.namespaceId, run.taskIds, reason);
    for (const child of run.runIds)
      await sinks.cancelRun(run.namespaceId, child, reason).catch((error) => {
        // It has ended by itself, or has not been made yet.
        if (!(error instanceof Refusal)) throw error;
      });
  }

  async function advance(due: readonly { runId: string; advanceIds: readonly string[] }[]): Promise<void> {
    if (due.length === 0) return;
    const sorted = [...due].sort((a, b) => compareIds(a.runId, b.runId));
    const ended = await persist(
      () =>
        endFunctions(
          pools.hot,
          sorted.map((d) => d.runId),
          sorted.flatMap((d) => d.advanceIds),
        ),
      env.random,
    );
    const over = new Set(ended.map((e) => e.runId));
    counters.add('baton_run_steps_total', ended.length);
    for (const run of ended) {
      logRunEnd(env.log, run.runId, run.state, run.workflowName);
      sinks.onRunEnded(run.runId);
      await cancelOpen(run, `run ${run.runId}, which made it, has ended`);
    }
    if (ended.some((run) => run.parentRunId !== null)) sinks.poke();
    if (over.size < sorted.length) await goOn(sorted.filter((d) => !over.has(d.runId)));
    sinks.onChanged();
  }

  /** Those whose driver has not ended. */
  async function goOn(due: readonly { runId: string; advanceIds: readonly string[] }[]): Promise<void> {
    const standing = new Map(
      (
        await readFunctions(
          pools.hot,
          due.map((d) => d.runId),
        )
      ).map((s) => [s.runId, s]),
    );
    const toWake: (typeof due)[number][] = [];
    for (const each of due) {
      const run = standing.get(each.runId);
      if (run?.isOpen && run.cancelReason === null) {
        toWake.push(each);
        continue;
      }
      if (run?.isOpen) {
        await sinks.cancelTasks(run.namespaceId, [run.driverTaskId], run.cancelReason!);
        await cancelOpen(run, run.cancelReason!);
      }
      await dropAdvances(pools.hot, each.advanceIds);
    }
    if (toWake.length === 0) return;
    const runIds = toWake.map((d) => d.runId);
    await persist(() => countWakes(pools.hot, runIds), env.random);
    const { laneIds } = await persist(
      () =>
        wakeDrivers(
          pools.hot,
          runIds,
          toWake.flatMap((d) => d.advanceIds),
        ),
      env.random,
    );
    for (const laneId of laneIds) sinks.onReady(laneId);
  }

  /** Those who start runs end them; this is for those who died, or whose step came too late. */
  async function cancelOrphans(): Promise<void> {
    for (const { id, namespaceId, parentRunId } of await readOrphans(pools.api, SLEEPERS))
      await sinks.cancelRun(namespaceId, id, `run ${parentRunId}, which made it, has ended`).catch((error) => {
        if (!(error instanceof Refusal)) throw error;
      });
  }

  function onCompleted(ended: readonly CompletedFunction[]): void {
    counters.add('baton_tasks_succeeded_total', ended.length);
    counters.add('baton_run_steps_total', ended.length);
    for (const { taskId, run, ...open } of ended) {
      logRunEnd(env.log, run.id, run.state, run.workflowName);
      sinks.onTaskEnded(taskId);
      sinks.onRunEnded(run.id, run);
      if (open.taskIds.length + open.runIds.length > 0)
        void cancelOpen({ ...open, namespaceId: run.namespaceId }, `run ${run.id}, which made it, has ended`).catch(
          (error) => env.log.warn('what a run left could not be cancelled', { run_id: run.id, error: String(error) }),
        );
    }
    if (ended.some(({ run }) => run.parentRunId !== null)) sinks.poke();
    sinks.onChanged();
  }

  let lookedAt = env.now();
  async function wakeSleepers(): Promise<void> {
    if (env.now() - lookedAt < LOOK_EVERY_MS) return;
    lookedAt = env.now();
    await cancelOrphans();
    const asleep = await readSleepers(pools.api, SLEEPERS);
    if (asleep.length === 0) return;
    env.log.warn('functions woken whose advance was lost', { runs: asleep.length });
    await advance(asleep.map((runId) => ({ runId, advanceIds: [] })));
  }

  const maker: JournalMaker = {
    async tasks(made) {
      const batch: NewTask[] = [];
      const refused = new Map<string, Failure>();
      for (const { id, runId, namespaceId, name, request } of made) {
        let files: ArtifactInput[] | undefined;
        try {
          checkTexts(request);
          files = request.artifacts && (await artifacts.admit(namespaceId, request.artifacts));
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
          const message = `${error.reason}: ${error.message}`;
          refused.set(id, { type: 'EVALUATION_ERROR', message: storableText(message), nonRetryable: true });
          continue;
        }
        const key = laneKey(namespaceId, request);
        const lane = files ? await artifacts.laneFor(key, files) : await lanes.laneFor(key);
        if (files) await artifacts.save({ taskId: id, namespaceId, inputs: files });
        const { maxAttempts, ...retry } = request.retry ?? {};
        batch.push({
          id,
          namespaceId,
          routeId: lane.routeId,
          laneId: lane.id,
          priority: request.priority ?? 0,
          maxAttempts: maxAttempts ?? settings.retry.maxAttempts,
          startToCloseMs: request.startToCloseMs ?? settings.startToCloseMs,
          encoding: request.encoding ?? 1,
          input: request.input ?? null,
          dueAtMs: null,
          idempotency: null,
          extra: {
            ...extraOf(request, request.executor ?? { type: 'function' }),
            runId,
            nodeId: name,
            ...(Object.keys(retry).length > 0 && { retry }),
          },
        });
      }
      batch.sort((a, b) => compareIds(a.id, b.id));
      for (let i = 0; i < batch.length; i += settings.batchRows) {
        const part = batch.slice(i, i + settings.batchRows);
        await persist(() => submitTasks(pools.hot, part), env.random);
        for (const laneId of new Set(part.map((task) => task.laneId))) sinks.onReady(laneId);
      }
      counters.add('baton_tasks_submitted_total', batch.length);
      return refused;
    },
    async child({ id, runId, namespaceId, name, request }) {
      const { workflowName, input, encoding, key: idempotencyKey } = request;
      const child = { runId: id, workflowName, input, encoding, idempotencyKey, parent: { runId, nodeId: name } };
      try {
        const started = await sinks.startChild(namespaceId, child);
        if (started.runId === id) return null;
        const holder = await readRunFacts(pools.api, started.runId);
        if (holder?.parentRunId !== runId)
          return refusedChild(
            `the key ${JSON.stringify(request.key)} stands for run ${started.runId}, which this run did not start`,
          );
        // An earlier execution of this run started it; this one makes its own.
        await sinks.startChild(namespaceId, { ...child, idempotencyKey: null });
        return null;
      } catch (error) {
        if (!(error instanceof Refusal) || error.code === 'unavailable') throw error;
        return refusedChild(`${error.reason}: ${error.message}`);
      }
    },
  };

  return {
    start,
    advance,
    wakeSleepers,
    maker,
    onCompleted,
    async register(namespaceId, functions) {
      for (const definition of functions) {
        const storedForm = functionForm(definition);
        const hash = hex(await sha256(new TextEncoder().encode(storedForm)));
        for (;;) {
          const newest = await readWorkflow(pools.api, namespaceId, definition.id, null);
          if (newest?.hash === hash) break;
          const stored = await persist(
            () =>
              storeWorkflow(pools.api, {
                namespaceId,
                name: definition.id,
                hash,
                description: definition.description,
                definition: storedForm,
                storedForm,
              }),
            env.random,
          );
          if (stored) break;
        }
      }
    },
    async signal(namespaceId, { runId, name, payload, encoding, key }) {
      const violations = [name, key ?? ''].some((text) => text !== storableText(text));
      if (violations)
        throw new Refusal(
          'invalid_argument',
          'INVALID_REQUEST',
          'name and key must not contain NUL or lone surrogates',
        );
      if (payload && payload.byteLength > settings.maxInputBytes)
        throw new Refusal(
          'resource_exhausted',
          'INPUT_TOO_LARGE',
          `the signal has ${payload.byteLength} bytes; at most ${settings.maxInputBytes} are taken`,
        );
      const id = env.ids.next();
      const run = isId(runId)
        ? await persist(
            () => insertSignal(pools.api, { id, namespaceId, runId, name, encoding, payload, key }),
            env.random,
          )
        : null;
      if (!run) throw notFound('run', runId);
      if (!run.stored && run.form !== 'function')
        throw new Refusal(
          'failed_precondition',
          'RUN_NOT_SIGNALLABLE',
          `run ${runId} is a graph's; only durable functions wait for signals`,
        );
      if (!run.stored && !run.known && !['pending', 'running', 'waiting'].includes(run.state))
        throw new Refusal(
          'failed_precondition',
          'RUN_ENDED',
          `run ${runId} has already ${run.state === 'cancelled' ? 'been cancelled' : run.state}`,
        );
      if (run.stored) {
        sinks.onChanged();
        sinks.poke();
      }
      return { deduplicated: !run.stored };
    },
    async retry(run, fromNodeIds) {
      const entries = await readRetriedEntries(pools.api, run.id);
      const dropped = fromNodeIds.length > 0 ? droppedFrom(entries, fromNodeIds) : droppedForRetry(entries);
      if (dropped === null)
        throw new Refusal(
          'invalid_argument',
          'NODE_NOT_FOUND',
          `the journal of run ${run.id} has no ${fromNodeIds.join(', ')}`,
        );
      const workflow = await readWorkflow(pools.api, run.namespaceId, run.workflowName, run.workflowVersion);
      const definition = workflow && readFunctionForm(workflow.storedForm);
      if (!definition) throw notFound('workflow', run.workflowName);
      const driver = await driverOf(run.namespaceId, definition, definition.release);
      if (!(await reopenFunction(pools.api, run.id, run.revision, dropped, driver))) return null;
      sinks.onReady(driver.laneId);
      sinks.onChanged();
      const names = new Map(entries.map((e) => [e.number, e.name]));
      return { execution: run.execution + 1, nodeIds: dropped.map((number) => names.get(number)!) };
    },
  };
}

function refusedChild(message: string): Failure {
  return {
    type: 'EVALUATION_ERROR',
    message: storableText(message),
    exceptionType: 'ChildRefused',
    nonRetryable: true,
  };
}
