import {
  AttemptState,
  type Breaker,
  BreakerSchema,
  BreakerState,
  EventService,
  ExplainTaskResponseSchema,
  type Failure,
  type FailureRecord,
  FailureRecordSchema,
  type FailureSchema,
  type HistoryEntrySchema,
  NodeState,
  type Queue,
  QueueSchema,
  type Run,
  RunSchema,
  RunState,
  type StartRunRequest,
  type SubmitTaskResult,
  SubmitTaskResultSchema,
  SystemService,
  type Task,
  TaskLogSchema,
  TaskSchema,
  TaskService,
  type TaskSpec,
  TaskState,
  type WatchResponse,
  WatchResponseSchema,
  type Worker,
  WorkerSchema,
  type Workflow,
  WorkflowSchema,
  WorkflowService,
} from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { clone, create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationMs, timestampNow } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, type ConnectRouter, createRouterTransport, type Transport } from '@connectrpc/connect';
import { FakeKeep } from './fake-keep.ts';

/**
 * Baton's client services in memory, for tests of code that uses a client: no database, no worker, no retry. Tasks and
 * runs stay as they are until the test moves them. Every call goes through Connect's own encoding.
 *
 * Long because it has a method for each one of the services.
 */
export class FakeBaton {
  readonly transport: Transport;
  /** Blobs and checkpoints. */
  readonly keep = new FakeKeep();
  /** The methods that were called, in order. */
  readonly calls: string[] = [];
  readonly specs = new Map<string, TaskSpec>();
  readonly #tasks = new Map<string, Task>();
  readonly #taskByKey = new Map<string, string>();
  readonly #logs = new Map<string, string[]>();
  /** In the order of their ends. */
  readonly #ended: string[] = [];
  readonly #outputs = new Map<string, { attempt: number; offset: number; data: Uint8Array }[]>();
  readonly #histories = new Map<string, MessageInitShape<typeof HistoryEntrySchema>[]>();
  readonly #runs = new Map<string, Run>();
  readonly #runByKey = new Map<string, string>();
  readonly #workflows = new Map<string, Workflow>();
  readonly #workers: Worker[] = [];
  readonly #queues: Queue[] = [];
  readonly #explanations = new Map<string, MessageInitShape<typeof ExplainTaskResponseSchema>>();
  readonly #breakers: Breaker[] = [];
  readonly #failures: FailureRecord[] = [];
  readonly #eventBatches: WatchResponse[] = [];
  readonly #faults: { method: string; error: ConnectError }[] = [];
  readonly #maxWaitMs: number;
  #nextId = 1n;
  #changed = Promise.withResolvers<void>();
  #cut = Promise.withResolvers<never>();

  /** `maxWaitMs`: the longest that a GetTask waits, whatever it asks for. */
  constructor({ maxWaitMs = 60_000 }: { readonly maxWaitMs?: number } = {}) {
    this.#maxWaitMs = maxWaitMs;
    this.#cut.promise.catch(() => {});
    this.transport = createRouterTransport(this.routes);
  }

  /** The services, to be served over HTTP by one of Connect's adapters. */
  readonly routes = (router: ConnectRouter): void => {
    this.#serveTasks(router);
    this.#serveWorkflows(router);
    this.#serveSystem(router);
    this.keep.routes(router);
  };

  /** Lets the next calls of a method (`submitTasks`, `getTask`, …) fail, once for each error. */
  failNext(method: string, ...errors: ConnectError[]): void {
    for (const error of errors) this.#faults.push({ method, error });
  }

  /** Errors of `failNext` that no call has met yet. */
  get faultsLeft(): number {
    return this.#faults.length;
  }

  /** Breaks all streams that are open now. */
  cutStreams(): void {
    this.#cut.reject(new ConnectError('the connection was cut', Code.Unavailable));
    this.#cut = Promise.withResolvers<never>();
    this.#cut.promise.catch(() => {});
  }

  /** Resolves at the next call or change. */
  async next(): Promise<void> {
    await this.#changed.promise;
  }

  task(id: string): Task {
    return found(this.#tasks.get(id), 'TASK_NOT_FOUND', `task ${id}`);
  }

  run(id: string): Run {
    return found(this.#runs.get(id), 'RUN_NOT_FOUND', `run ${id}`);
  }

  updateTask(id: string, change: (task: Task) => void): void {
    const task = this.task(id);
    change(task);
    if (task.state >= TaskState.SUCCEEDED && !this.#ended.includes(id)) this.#ended.push(id);
    this.#announce();
  }

  updateRun(id: string, change: (run: Run) => void): void {
    change(this.run(id));
    this.#announce();
  }

  succeedTask(id: string, outputJson: string): void {
    this.updateTask(id, (task) => {
      Object.assign(task, { state: TaskState.SUCCEEDED, attempt: 1, endTime: timestampNow(), worker: 'worker-1' });
      task.outputPayload = { case: 'outputJson', value: outputJson };
    });
  }

  failTask(id: string, failure: MessageInitShape<typeof FailureSchema>, attempt = 1): void {
    this.updateTask(id, (task) => {
      Object.assign(task, { state: TaskState.FAILED, attempt, endTime: timestampNow(), worker: 'worker-1' });
      task.failure = create(TaskSchema, { failure }).failure as Failure;
    });
  }

  addLogs(id: string, ...texts: string[]): void {
    this.#logs.set(id, [...(this.#logs.get(id) ?? []), ...texts]);
    this.#announce();
  }

  /** What the task streams next, in its newest attempt or in a new one. */
  addOutput(id: string, text: string, attempt = 1): void {
    const parts = this.#outputs.get(id) ?? [];
    this.#outputs.set(id, parts);
    const last = parts.at(-1);
    const offset = last?.attempt === attempt ? last.offset + last.data.length : 0;
    parts.push({ attempt, offset, data: new TextEncoder().encode(text) });
    this.#announce();
  }

  setHistory(id: string, entries: MessageInitShape<typeof HistoryEntrySchema>[]): void {
    this.#histories.set(id, entries);
  }

  addWorker(worker: MessageInitShape<typeof WorkerSchema>): void {
    this.#workers.push(create(WorkerSchema, worker));
  }

  addQueue(queue: MessageInitShape<typeof QueueSchema>): void {
    this.#queues.push(create(QueueSchema, queue));
  }

  setExplanation(id: string, explanation: MessageInitShape<typeof ExplainTaskResponseSchema>): void {
    this.#explanations.set(id, explanation);
  }

  addBreaker(breaker: MessageInitShape<typeof BreakerSchema>): void {
    this.#breakers.push(create(BreakerSchema, breaker));
  }

  /** Newest first. */
  addFailure(failure: MessageInitShape<typeof FailureRecordSchema>): void {
    this.#failures.push(create(FailureRecordSchema, failure));
  }

  addEvents(batch: MessageInitShape<typeof WatchResponseSchema>): void {
    this.#eventBatches.push(create(WatchResponseSchema, batch));
    this.#announce();
  }

  #announce(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  #called(method: string): void {
    this.calls.push(method);
    this.#announce();
    const index = this.#faults.findIndex((fault) => fault.method === method);
    if (index >= 0) throw this.#faults.splice(index, 1)[0]!.error;
  }

  #submit(spec: TaskSpec): { taskId: string; deduplicated: boolean } {
    if (spec.kind === '') throw invalid('task.kind', 'value length must be at least 1 bytes');
    const key = `${spec.kind}\n${spec.idempotencyKey}`;
    const earlier = spec.idempotencyKey === '' ? undefined : this.#taskByKey.get(key);
    if (earlier !== undefined) return { taskId: earlier, deduplicated: true };
    const id = String(this.#nextId++);
    this.#taskByKey.set(key, id);
    this.specs.set(id, spec);
    this.#tasks.set(
      id,
      create(TaskSchema, {
        id,
        namespace: 'default',
        kind: spec.kind,
        queue: spec.queue || 'default',
        taskClass: spec.taskClass || 1,
        tags: spec.tags,
        state: spec.runAt ? TaskState.SCHEDULED : TaskState.READY,
        maxAttempts: spec.retry?.maxAttempts || 4,
        priority: spec.priority,
        createTime: timestampNow(),
        dueTime: spec.runAt,
        executor: spec.executor,
        inputPayload: spec.payload,
        idempotencyKey: spec.idempotencyKey,
        labels: spec.labels,
      }),
    );
    return { taskId: id, deduplicated: false };
  }

  /** The value now, then again at each change, until it is final. */
  async *#watch<T>(read: () => T, isFinal: (value: T) => boolean, signal: AbortSignal): AsyncGenerator<T> {
    const cut = this.#cut.promise;
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    aborted.catch(() => {});
    for (;;) {
      const changed = this.#changed.promise;
      const value = read();
      yield value;
      if (isFinal(value)) return;
      await Promise.race([cut, aborted, changed]);
    }
  }

  #serveTasks(router: ConnectRouter): void {
    const isFinal = (task: Task): boolean => task.state >= TaskState.SUCCEEDED;
    const attempts = (task: Task) =>
      Array.from({ length: task.attempt }, (_, index) => ({
        number: index + 1,
        epoch: index + 1,
        state: task.state === TaskState.SUCCEEDED ? AttemptState.SUCCEEDED : AttemptState.FAILED,
        worker: task.worker,
        failure: task.failure,
      }));
    router.service(TaskService, {
      submitTask: ({ task }) => {
        this.#called('submitTask');
        return this.#submit(task!);
      },
      submitTasks: ({ tasks }) => {
        this.#called('submitTasks');
        return {
          results: tasks.map((spec): SubmitTaskResult => {
            try {
              return create(SubmitTaskResultSchema, { result: { case: 'submitted', value: this.#submit(spec) } });
            } catch (thrown) {
              const message = ConnectError.from(thrown).rawMessage;
              const refused = { code: 'invalid_argument', reason: 'INVALID_REQUEST', message };
              return create(SubmitTaskResultSchema, { result: { case: 'refused', value: refused } });
            }
          }),
        };
      },
      getTask: async ({ taskId, wait }) => {
        this.#called('getTask');
        const until = performance.now() + Math.min(this.#maxWaitMs, wait ? durationMs(wait) : 0);
        while (!isFinal(this.task(taskId)) && performance.now() < until) {
          let timer: ReturnType<typeof setTimeout> | undefined;
          const over = new Promise<void>((resolve) => {
            timer = setTimeout(resolve, until - performance.now());
          });
          await Promise.race([this.#changed.promise, over]);
          clearTimeout(timer);
        }
        const task = this.task(taskId);
        return { task, attempts: attempts(task) };
      },
      waitTasks: async ({ taskIds, wait }, { signal }) => {
        this.#called('waitTasks');
        const missing = taskIds.filter((id) => !this.#tasks.has(id));
        const ended = () => taskIds.filter((id) => !missing.includes(id) && isFinal(this.task(id)));
        const until = performance.now() + Math.min(this.#maxWaitMs, wait ? durationMs(wait) : 0);
        while (missing.length === 0 && ended().length === 0 && !signal.aborted && performance.now() < until) {
          let timer: ReturnType<typeof setTimeout> | undefined;
          const over = new Promise<void>((resolve) => {
            timer = setTimeout(resolve, until - performance.now());
          });
          await Promise.race([this.#changed.promise, this.#cut.promise, over]);
          clearTimeout(timer);
        }
        const ends = ended().map((id) => {
          const { state, outputPayload, failure, cancelReason } = this.task(id);
          return { taskId: id, state, outputPayload, failure, cancelReason };
        });
        return { ends, missing };
      },
      listTasks: ({ pageSize, pageToken, states, queue, kind }) => {
        this.#called('listTasks');
        const all = [...this.#tasks.values()]
          .reverse()
          .filter((task) => states.length === 0 || states.includes(task.state))
          .filter((task) => (queue === '' || task.queue === queue) && (kind === '' || task.kind === kind));
        const { items, nextPageToken } = pageOf(all, pageSize, pageToken);
        return { tasks: items, nextPageToken };
      },
      listFailures: ({ pageSize, pageToken, worker, taskId, types }) => {
        this.#called('listFailures');
        const all = this.#failures
          .filter((each) => (worker === '' || each.worker === worker) && (taskId === '' || each.taskId === taskId))
          .filter((each) => types.length === 0 || types.includes(each.failure!.type));
        const { items, nextPageToken } = pageOf(all, pageSize, pageToken);
        return { failures: items, nextPageToken };
      },
      getFailureStatistics: () => {
        this.#called('getFailureStatistics');
        const countBy = <K>(keyOf: (failure: FailureRecord) => K): Map<K, bigint> => {
          const counts = new Map<K, bigint>();
          for (const failure of this.#failures) counts.set(keyOf(failure), (counts.get(keyOf(failure)) ?? 0n) + 1n);
          return counts;
        };
        const byWorker = countBy((failure) => failure.worker);
        return {
          failures: BigInt(this.#failures.length),
          byType: [...countBy((failure) => failure.failure!.type)].map(([type, count]) => ({ type, count })),
          byWorker: [...byWorker].map(([worker, count]) => ({ worker, count })),
          tasksAffected: BigInt(countBy((failure) => failure.taskId).size),
          workersAffected: BigInt(byWorker.size),
          breakersOpen: this.#breakers.filter((breaker) => breaker.state !== BreakerState.CLOSED).length,
        };
      },
      listDeadTasks: ({ pageSize, pageToken, queue, kind, types, includeResent }) => {
        this.#called('listDeadTasks');
        const resentAs = (id: string) => [...this.#tasks.values()].findLast((task) => task.retryOf === id)?.id ?? '';
        const all = [...this.#tasks.values()]
          .reverse()
          .filter((task) => task.state === TaskState.FAILED)
          .filter((task) => (queue === '' || task.queue === queue) && (kind === '' || task.kind === kind))
          .filter((task) => types.length === 0 || types.includes(task.failure!.type))
          .map((task) => ({ task, resentAs: resentAs(task.id) }))
          .filter((dead) => includeResent || dead.resentAs === '');
        const { items, nextPageToken } = pageOf(all, pageSize, pageToken);
        return { tasks: items, nextPageToken };
      },
      resendTasks: ({ taskIds }) => {
        this.#called('resendTasks');
        return {
          results: taskIds.map((id): SubmitTaskResult => {
            const task = this.#tasks.get(id);
            if (task === undefined || !isFinal(task)) {
              const reason = task === undefined ? 'TASK_NOT_FOUND' : 'TASK_NOT_ENDED';
              const refused = { code: 'failed_precondition', reason, message: `task ${id} cannot be sent again` };
              return create(SubmitTaskResultSchema, { result: { case: 'refused', value: refused } });
            }
            const earlier = [...this.#tasks.values()].find((each) => each.retryOf === id);
            const value = earlier ? { taskId: earlier.id, deduplicated: true } : this.#submit(this.specs.get(id)!);
            if (!earlier) this.task(value.taskId).retryOf = id;
            return create(SubmitTaskResultSchema, { result: { case: 'submitted', value } });
          }),
        };
      },
      watchTask: async function* (
        this: FakeBaton,
        { taskId }: { taskId: string },
        { signal }: { signal: AbortSignal },
      ) {
        this.#called('watchTask');
        for await (const task of this.#watch(() => clone(TaskSchema, this.task(taskId)), isFinal, signal))
          yield { task };
      }.bind(this),
      cancelTask: ({ taskId, reason }) => {
        this.#called('cancelTask');
        this.updateTask(taskId, (task) => {
          task.cancelReason = reason;
          if (task.state !== TaskState.LEASED) task.state = TaskState.CANCELLED;
        });
        return { state: this.task(taskId).state };
      },
      streamTaskLogs: async function* (
        this: FakeBaton,
        { taskId, follow, cursor }: { taskId: string; follow: boolean; cursor: string },
        { signal }: { signal: AbortSignal },
      ) {
        this.#called('streamTaskLogs');
        let sent = Number(cursor || 0);
        const read = () => ({ texts: this.#logs.get(taskId) ?? [], isOver: !follow || isFinal(this.task(taskId)) });
        for await (const { texts } of this.#watch(read, ({ isOver }) => isOver, signal)) {
          const logs = texts
            .slice(sent)
            .map((text) => create(TaskLogSchema, { taskId, attempt: 1, time: timestampNow(), stream: 'log', text }));
          sent = texts.length;
          if (logs.length > 0) yield { logs, cursor: String(sent) };
        }
      }.bind(this),
      streamTaskOutput: async function* (
        this: FakeBaton,
        request: { taskId: string; attempt: number; offset: bigint; follow: boolean },
        { signal }: { signal: AbortSignal },
      ) {
        this.#called('streamTaskOutput');
        const { taskId, follow } = request;
        let place = { attempt: request.attempt, offset: Number(request.offset) };
        const read = () => ({ parts: this.#outputs.get(taskId) ?? [], isOver: !follow || isFinal(this.task(taskId)) });
        for await (const { parts } of this.#watch(read, ({ isOver }) => isOver, signal)) {
          const newest = parts.at(-1)?.attempt ?? 0;
          if (place.attempt === 0) place = { attempt: newest, offset: 0 };
          if (newest > place.attempt && follow) {
            place = { attempt: newest, offset: 0 };
            yield { attempt: newest, epoch: newest, reset: true };
          }
          for (const { attempt, offset, data } of parts) {
            if (attempt !== place.attempt || offset + data.length <= place.offset) continue;
            const rest = data.subarray(place.offset - offset);
            yield { attempt, epoch: attempt, offset: BigInt(place.offset), data: rest };
            place = { attempt, offset: offset + data.length };
          }
        }
      }.bind(this),
      streamTaskResults: async function* (
        this: FakeBaton,
        { taskIds, cursor }: { taskIds: string[]; cursor: string },
        { signal }: { signal: AbortSignal },
      ) {
        this.#called('streamTaskResults');
        let sent = Number(cursor || 0);
        const read = () => this.#ended.filter((id) => taskIds.length === 0 || taskIds.includes(id));
        const isOver = (ended: string[]) => taskIds.length > 0 && ended.length === new Set(taskIds).size;
        for await (const ended of this.#watch(read, isOver, signal)) {
          for (const id of ended.slice(sent))
            yield { tasks: [clone(TaskSchema, this.task(id))], cursor: String(++sent) };
        }
      }.bind(this),
      explainTask: ({ taskId }) => {
        this.#called('explainTask');
        const explanation = found(this.#explanations.get(taskId), 'TASK_NOT_FOUND', `task ${taskId}`);
        return create(ExplainTaskResponseSchema, explanation);
      },
      getTaskHistory: ({ taskId }) => {
        this.#called('getTaskHistory');
        return { task: this.task(taskId), entries: this.#histories.get(taskId) ?? [] };
      },
    });
  }

  #startRun(request: StartRunRequest): { runId: string; deduplicated: boolean } {
    const workflow =
      request.workflow.case === 'definitionJson'
        ? this.#apply(request.workflow.value).workflow
        : found(
            this.#workflows.get(request.workflow.value ?? ''),
            'WORKFLOW_NOT_FOUND',
            `workflow ${request.workflow.value}`,
          );
    const earlier = request.idempotencyKey === '' ? undefined : this.#runByKey.get(request.idempotencyKey);
    if (earlier !== undefined) return { runId: earlier, deduplicated: true };
    const id = String(this.#nextId++);
    this.#runByKey.set(request.idempotencyKey, id);
    this.#runs.set(
      id,
      create(RunSchema, {
        id,
        namespace: 'default',
        workflowName: workflow.name,
        workflowVersion: workflow.version,
        execution: 1,
        state: RunState.RUNNING,
        createTime: timestampNow(),
        startTime: timestampNow(),
        nodes: workflow.nodeIds.map((nodeId) => ({ nodeId, state: NodeState.PENDING, execution: 1 })),
        nodesTotal: workflow.nodeIds.length,
        inputPayload: request.payload,
        labels: request.labels,
      }),
    );
    this.#announce();
    return { runId: id, deduplicated: false };
  }

  #serveWorkflows(router: ConnectRouter): void {
    router.service(WorkflowService, {
      validateWorkflow: () => {
        this.#called('validateWorkflow');
        return {};
      },
      applyWorkflow: ({ definitionJson }) => {
        this.#called('applyWorkflow');
        return this.#apply(definitionJson);
      },
      getWorkflow: ({ name }) => {
        this.#called('getWorkflow');
        return { workflow: found(this.#workflows.get(name), 'WORKFLOW_NOT_FOUND', `workflow ${name}`) };
      },
      listWorkflows: ({ pageSize, pageToken }) => {
        this.#called('listWorkflows');
        const { items, nextPageToken } = pageOf([...this.#workflows.values()], pageSize, pageToken);
        return { workflows: items, nextPageToken };
      },
      startRuns: ({ runs }) => {
        this.#called('startRuns');
        return { results: runs.map((run) => ({ result: { case: 'started' as const, value: this.#startRun(run) } })) };
      },
      startRun: (request) => {
        this.#called('startRun');
        return this.#startRun(request);
      },
      getRun: ({ runId }) => {
        this.#called('getRun');
        return { run: this.run(runId) };
      },
      listRuns: ({ pageSize, pageToken, states, workflowName }) => {
        this.#called('listRuns');
        const all = [...this.#runs.values()]
          .reverse()
          .filter((run) => states.length === 0 || states.includes(run.state))
          .filter((run) => workflowName === '' || run.workflowName === workflowName);
        const { items, nextPageToken } = pageOf(all, pageSize, pageToken);
        return { runs: items.map((run) => ({ ...run, nodes: [] })), nextPageToken };
      },
      watchRun: async function* (this: FakeBaton, { runId }: { runId: string }, { signal }: { signal: AbortSignal }) {
        this.#called('watchRun');
        const isFinal = (run: Run): boolean => run.state >= RunState.SUCCEEDED;
        for await (const run of this.#watch(() => clone(RunSchema, this.run(runId)), isFinal, signal)) yield { run };
      }.bind(this),
      waitRuns: async ({ runIds }, { signal }) => {
        this.#called('waitRuns');
        const missing = runIds.filter((id) => !this.#runs.has(id));
        const ended = () =>
          runIds.filter((id) => (this.#runs.get(id)?.state ?? 0) >= RunState.SUCCEEDED).map((id) => this.run(id));
        while (missing.length === 0 && ended().length === 0 && !signal.aborted)
          await Promise.race([this.#changed.promise, this.#cut.promise]);
        return { runs: ended().map((run) => clone(RunSchema, run)), missing };
      },
      cancelRun: ({ runId, reason }) => {
        this.#called('cancelRun');
        this.updateRun(runId, (run) => Object.assign(run, { state: RunState.CANCELLED, cancelReason: reason }));
        return { state: RunState.CANCELLED };
      },
      retryRun: ({ runId }) => {
        this.#called('retryRun');
        const nodeIds = this.run(runId)
          .nodes.filter((node) => node.state !== NodeState.SUCCEEDED)
          .map((node) => node.nodeId);
        this.updateRun(runId, (run) => {
          run.execution += 1;
          run.state = RunState.RUNNING;
          for (const node of run.nodes) if (node.state !== NodeState.SUCCEEDED) node.state = NodeState.PENDING;
        });
        return { execution: this.run(runId).execution, nodeIds };
      },
    });
  }

  #serveSystem(router: ConnectRouter): void {
    router.service(SystemService, {
      getHealth: () => {
        this.#called('getHealth');
        return { healthy: true, version: '0.1.0', parts: [{ name: 'postgres', healthy: true, message: 'answers' }] };
      },
      getInfo: () => {
        this.#called('getInfo');
        return { version: '0.1.0', protocolVersion: 2, schemaVersion: 10, postgresVersion: '18.4', masterId: 'fake' };
      },
      getMetrics: () => {
        this.#called('getMetrics');
        return { metrics: [{ name: 'baton_tasks_submitted_total', value: this.#tasks.size, type: 'counter' }] };
      },
      listWorkers: ({ pageSize, pageToken }) => {
        this.#called('listWorkers');
        const { items, nextPageToken } = pageOf(this.#workers, pageSize, pageToken);
        return { workers: items, nextPageToken };
      },
      getWorker: ({ name }) => {
        this.#called('getWorker');
        return {
          worker: found(
            this.#workers.find((each) => each.name === name),
            'WORKER_NOT_FOUND',
            `worker ${name}`,
          ),
        };
      },
      listBreakers: ({ worker, includeClosed }) => {
        this.#called('listBreakers');
        const breakers = this.#breakers
          .filter((breaker) => worker === '' || breaker.worker === worker)
          .filter((breaker) => includeClosed || breaker.state !== BreakerState.CLOSED);
        return { breakers };
      },
      resetBreaker: ({ worker, device }) => {
        this.#called('resetBreaker');
        const breaker = this.#breakers.find((each) => each.worker === worker && each.device === device);
        const { state } = found(breaker, 'WORKER_NOT_FOUND', `worker ${worker}`);
        breaker!.state = BreakerState.CLOSED;
        return { before: state };
      },
      listQueues: ({ pageSize, pageToken }) => {
        this.#called('listQueues');
        const { items, nextPageToken } = pageOf(this.#queues, pageSize, pageToken);
        return { queues: items, nextPageToken };
      },
      setQueue: ({ queue, strategy, placement }) => {
        this.#called('setQueue');
        if (!this.#queues.some((each) => each.name === queue)) this.addQueue({ name: queue });
        const known = this.#queues.find((each) => each.name === queue)!;
        if (strategy !== undefined) known.strategy = strategy;
        if (placement !== undefined) known.placement = placement;
        return { strategy: known.strategy, placement: known.placement };
      },
      pauseQueue: ({ queue }) => {
        this.#called('pauseQueue');
        if (!this.#queues.some((each) => each.name === queue)) this.addQueue({ name: queue });
        return { wasPaused: this.#setPaused(queue, true) };
      },
      resumeQueue: ({ queue }) => {
        this.#called('resumeQueue');
        return { wasPaused: this.#setPaused(queue, false) };
      },
      drainWorker: ({ name }) => {
        this.#called('drainWorker');
        const worker = this.#workers.find((candidate) => candidate.name === name);
        return { leases: found(worker, 'WORKER_NOT_FOUND', `worker ${name}`).leases };
      },
    });
    router.service(EventService, {
      watch: async function* (this: FakeBaton, { cursor }: { cursor: string }, { signal }: { signal: AbortSignal }) {
        this.#called('watch');
        let sent = this.#eventBatches.findIndex((batch) => batch.cursor === cursor) + 1;
        const read = () => this.#eventBatches.length;
        for await (const count of this.#watch(read, () => false, signal)) {
          while (sent < count) yield this.#eventBatches[sent++]!;
        }
      }.bind(this),
    });
  }

  #setPaused(name: string, paused: boolean): boolean {
    const queue = found(
      this.#queues.find((each) => each.name === name),
      'QUEUE_NOT_FOUND',
      `queue ${name}`,
    );
    const before = queue.paused;
    queue.paused = paused;
    return before;
  }

  #apply(definitionJson: string): { workflow: Workflow; changed: boolean } {
    const definition = JSON.parse(definitionJson) as Record<string, unknown>;
    const name = String(definition.workflow_name ?? definition.name);
    const nodes = (definition.containers ?? definition.nodes ?? {}) as Record<string, unknown> | { id: string }[];
    const nodeIds = Array.isArray(nodes) ? nodes.map((node) => node.id) : Object.keys(nodes);
    const earlier = this.#workflows.get(name);
    if (earlier?.definitionJson === definitionJson) return { workflow: earlier, changed: false };
    const version = (earlier?.version ?? 0) + 1;
    const createTime = timestampNow();
    const workflow = create(WorkflowSchema, { name, version, hash: 'fake', definitionJson, nodeIds, createTime });
    this.#workflows.set(name, workflow);
    return { workflow, changed: true };
  }
}

function pageOf<T>(all: readonly T[], pageSize: number, pageToken: string): { items: T[]; nextPageToken: string } {
  const start = Number(pageToken || 0);
  const end = start + (pageSize || 50);
  return { items: all.slice(start, end), nextPageToken: end < all.length ? String(end) : '' };
}

function found<T>(value: T | undefined, reason: string, what: string): T {
  if (value !== undefined) return value;
  throw new ConnectError(`${what} does not exist in this namespace`, Code.NotFound, undefined, [
    { desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } },
  ]);
}

function invalid(field: string, description: string): ConnectError {
  return new ConnectError(`${field}: ${description}`, Code.InvalidArgument, undefined, [
    { desc: errorDetails.ErrorInfoSchema, value: { reason: 'INVALID_REQUEST', domain: 'baton' } },
    { desc: errorDetails.BadRequestSchema, value: { fieldViolations: [{ field, description }] } },
  ]);
}
