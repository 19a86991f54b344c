import { type Failure, ItemProgress, resolveInput, storableText } from '@baton/domain';
import {
  bytesOfHex,
  type DueRun,
  hex,
  type ItemChange,
  itemHashes,
  type NodeChange,
  type RunStep,
  readItemStates,
  runningItems,
  type StepEnd,
} from '@baton/store';
import { sha256 } from '../data/digest.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { RunContext, RunningItems } from './run-context.ts';
import { evaluationFailure, type NodeStarter, type Started } from './run-nodes.ts';
import { outputValue, type RunValues } from './run-values.ts';

/** New tasks, child runs and cached results of one run in one step; the run stays due for the rest. */
const STEP_STARTS = 500;
/** Nodes and items of one run. */
const MAX_RUN_SIZE = 1_000_000;
/** A row of the cache stays so long beyond the time that its result is used: its task may take a while. */
const CACHE_SLACK_MS = 7 * 86_400_000;
/** So many of the running nodes are named in the run. */
const NAMED_CURRENT = 20;

/** A step that is planned: its context is already as it will be when it is written. */
export interface PlannedStep {
  context: RunContext;
  write: RunStep;
  /** What a cancelled run still has running: to be asked to stop before the step is written, for then nobody remembers. */
  cancel: { taskIds: string[]; childRunIds: string[]; reason: string } | null;
}

export type StepPlanner = (context: RunContext, due: DueRun) => Promise<PlannedStep>;

/** Plans steps of runs: takes ends in, evaluates what may start, and says what is to be written. Writes nothing itself. */
export function createStepPlanner(env: EngineEnvironment, starter: NodeStarter, values: RunValues): StepPlanner {
  const { pools } = env;

  return async function planStep(context, due) {
    const { run, workflow, progress } = context;
    const nodes = new Map<number, NodeChange>();
    const items: ItemChange[] = [];
    const write: RunStep = {
      runId: run.id,
      revision: run.revision,
      state: 'running',
      nodesSucceeded: 0,
      nodesEnded: 0,
      itemsTotal: run.itemsTotal,
      currentNodes: [],
      failedNodeId: null,
      failureMessage: null,
      failure: null,
      output: null,
      nodes: [],
      items,
      tasks: [],
      children: [],
      cache: [],
      advanceIds: due.advanceIds,
      endedChildIds: [],
      more: false,
    };
    const tasks: RunStep['tasks'][number][] = [];
    const children: RunStep['children'][number][] = [];
    const cache: RunStep['cache'][number][] = [];
    let budget = STEP_STARTS;
    /** Nodes whose items have results of earlier tasks that only this step writes down. */
    const unwritten = new Set<number>();
    const over: number[] = [];
    const endedChildIds: string[] = [];

    const change = (node: number, fields: Partial<NodeChange>): void => {
      const before = nodes.get(node);
      nodes.set(node, {
        ...(before ?? bareNode(workflow.graph.nodes[node]!.id, node + 1)),
        ...fields,
        state: progress.state(node),
      });
    };

    function endNode(node: number, end: Omit<StepEnd, 'nodeId' | 'item' | 'output' | 'taskId' | 'childRunId'>): void {
      progress.end(node, end.state);
      if (end.failure) context.failures.set(node, end.failure);
      change(node, {
        attempts: end.attempts,
        workerId: end.workerId,
        outputHash: end.outputHash,
        failure: end.failure,
        endedAtMs: end.endedAtMs,
      });
    }
    const fail = (node: number, failure: Failure) => {
      const started = progress.isPending(node);
      endNode(node, {
        state: 'failed',
        attempts: 0,
        workerId: null,
        outputHash: null,
        failure,
        endedAtMs: env.now(),
      });
      if (started) change(node, { started: true });
    };

    function noteItems(node: number, running: RunningItems): void {
      const { total, started, ended, failed, cancelled, isOver } = running.progress;
      change(node, { items: { total, started, ended, failed: failed + cancelled } });
      if (isOver && !over.includes(node)) over.push(node);
    }

    function endItem(running: RunningItems, item: number, state: StepEnd['state'], failure: Failure | null) {
      if (!running.progress.end(item, state)) return false;
      running.childIds.delete(item);
      if (state !== 'succeeded' && !running.failure)
        running.failure = { item, failure: failure ?? { type: 'UNKNOWN', message: 'it was cancelled' } };
      if (state !== 'succeeded' && !running.continues) running.progress.isStopped = true;
      return true;
    }

    async function takeEnd(end: StepEnd): Promise<void> {
      const node = workflow.graph.indexOf.get(end.nodeId);
      if (node === undefined || !progress.isRunning(node)) return;
      if (end.item === null) {
        if (end.taskId !== null ? context.taskIds[node] !== end.taskId : context.childIds[node] !== end.childRunId)
          return;
        endNode(node, end);
        if (end.state === 'succeeded' && end.output && workflow.isRead(node))
          context.outputs.set(node, outputValue(end.output));
        return;
      }
      const running = await itemsOf(node);
      if (!running || (end.childRunId !== null && running.childIds.get(end.item) !== end.childRunId)) return;
      if (!endItem(running, end.item, end.state, end.failure)) return;
      items.push({
        ...bareItem(node + 1, end.item, end.state),
        attempts: end.attempts,
        workerId: end.workerId,
        outputHash: end.outputHash,
        failure: end.failure,
        endedAtMs: end.endedAtMs,
      });
      noteItems(node, running);
    }

    /** The items of a node that runs or starts, as they stand in Postgres or here. */
    async function itemsOf(node: number, total = context.itemTotals.get(node)): Promise<RunningItems | null> {
      const known = context.items.get(node);
      if (known || total === undefined) return known ?? null;
      const definition = workflow.definition.nodes[node]!;
      const rows = await readItemStates(pools.api, run.id, node + 1);
      const continues = definition.onFailure === 'continue';
      const limit = definition.forEach?.maxParallel ?? Number.POSITIVE_INFINITY;
      const running: RunningItems = {
        progress: new ItemProgress(total, limit, rows),
        list: null,
        failure: null,
        childIds: new Map(),
        continues,
      };
      for (const { item, state, childRunId } of rows)
        if (state === 'running' && childRunId !== null) running.childIds.set(item, childRunId);
      const failed = rows.find((row) => row.state === 'failed' || row.state === 'cancelled');
      if (failed)
        running.failure = {
          item: failed.item,
          failure: failed.failure ?? { type: 'UNKNOWN', message: 'it was cancelled' },
        };
      running.progress.isStopped = (failed !== undefined && !continues) || progress.isStopped;
      context.items.set(node, running);
      return running;
    }

    /** A node whose items are all over ends. */
    async function endItems(node: number): Promise<void> {
      const running = context.items.get(node)!;
      const { total, ended, failed, cancelled, outcome } = running.progress;
      let outputHash: string | null = null;
      if (outcome === 'succeeded') {
        const hashes = await itemHashes(pools.api, run.id, node + 1);
        for (const item of items)
          if (item.ordinal === node + 1 && item.outputHash) hashes.set(item.item, item.outputHash);
        const text = Array.from({ length: total }, (_, item) => hashes.get(item) ?? '').join('\n');
        outputHash = hex(await sha256(new TextEncoder().encode(text)));
      }
      const what = running.failure && `item ${running.failure.item}: ${running.failure.failure.message}`;
      const failure: Failure | null =
        outcome === 'succeeded' || !running.failure
          ? null
          : {
              ...running.failure.failure,
              message: storableText(
                `${failed + cancelled} of ${total} items ${failed > 0 ? 'failed' : 'were cancelled'}${ended < total ? `, ${total - ended} were not started` : ''}; ${what}`,
              ),
            };
      context.items.delete(node);
      endNode(node, { state: outcome, attempts: 0, workerId: null, outputHash, failure, endedAtMs: env.now() });
    }

    /** Takes in what became of a node, or of an item of one, that was to start. */
    function takeStart(node: number, item: number | null, started: Started): void {
      budget--;
      const base = { started: true } as const;
      let fields: Partial<ItemChange> & { state: ItemChange['state'] };
      if ('failure' in started) fields = { ...base, state: 'failed', failure: started.failure, endedAtMs: env.now() };
      else if ('cached' in started)
        fields = { ...base, state: 'succeeded', cached: true, ...started.cached, endedAtMs: env.now() };
      else if ('child' in started) {
        children.push(started.child);
        budget -= started.child.nodeIds.length >> 2;
        fields = { ...base, state: 'running', childRunId: started.child.id };
      } else if ('startedRunId' in started) {
        if (started.hasEnded) endedChildIds.push(started.startedRunId);
        fields = { ...base, state: 'running', childRunId: started.startedRunId };
      } else {
        tasks.push(started.task);
        if (started.cache)
          cache.push({ ...started.cache, ttlMs: started.cache.ttlMs + CACHE_SLACK_MS, taskId: started.task.id });
        fields = { ...base, state: 'running', taskId: started.task.id };
      }
      if (item !== null) {
        const running = context.items.get(node)!;
        running.progress.start(item);
        if (fields.childRunId) running.childIds.set(item, fields.childRunId);
        if (fields.state !== 'running') {
          endItem(running, item, fields.state, fields.failure ?? null);
          unwritten.add(node);
        }
        items.push({ ...bareItem(node + 1, item, fields.state), ...fields });
        noteItems(node, running);
        return;
      }
      if (fields.state === 'running') {
        progress.start(node);
        context.taskIds[node] = fields.taskId ?? null;
        context.childIds[node] = fields.childRunId ?? null;
      } else {
        if (fields.taskId) context.taskIds[node] = fields.taskId;
        if (fields.failure) context.failures.set(node, fields.failure);
        progress.end(node, fields.state);
      }
      change(node, fields);
    }

    /** Starts a node that runs once for each item: nothing of it runs yet. */
    async function openItems(node: number): Promise<void> {
      const made = starter.itemsOf(context, node);
      if (!made.ok) return fail(node, made.failure);
      const total = made.value.length;
      const size = workflow.graph.nodes.length + run.itemsTotal + total;
      if (size > MAX_RUN_SIZE)
        return fail(
          node,
          evaluationFailure(
            `a run has at most ${MAX_RUN_SIZE} nodes and items; with its ${total} items it would have ${size}`,
          ),
        );
      if (context.itemTotals.get(node) !== total) {
        run.itemsTotal += total - (context.itemTotals.get(node) ?? 0);
        context.itemTotals.set(node, total);
      }
      progress.start(node);
      context.items.delete(node);
      const running =
        run.execution > 1
          ? (await itemsOf(node, total))!
          : {
              progress: new ItemProgress(
                total,
                workflow.definition.nodes[node]!.forEach!.maxParallel ?? Number.POSITIVE_INFINITY,
                [],
              ),
              list: null,
              failure: null,
              childIds: new Map<number, string>(),
              continues: workflow.definition.nodes[node]!.onFailure === 'continue',
            };
      running.list = made.value;
      context.items.set(node, running);
      change(node, { started: true });
      noteItems(node, running);
    }

    /** Starts items of a node that runs, as many as may. */
    async function startItems(node: number, running: RunningItems): Promise<void> {
      if (running.progress.next() === undefined) return;
      if (running.list === null || needsOutputs(node))
        await values.load(context, workflow.readsOf(node), workflow.partsOf(node));
      if (running.list === null) {
        const made = starter.itemsOf(context, node);
        if (!made.ok || made.value.length !== running.progress.total) {
          running.progress.isStopped = true;
          running.failure ??= {
            item: 0,
            failure: made.ok ? evaluationFailure('the list of its items has changed') : made.failure,
          };
          noteItems(node, running);
          return;
        }
        running.list = made.value;
      }
      while (budget > 0) {
        // A hundred at a time: failures, and hits in the cache, are seen before the next.
        const batch: number[] = [];
        for (let item = running.progress.next(); item !== undefined; item = running.progress.next()) {
          batch.push(item);
          running.progress.start(item);
          if (batch.length >= Math.min(100, budget)) break;
        }
        if (batch.length === 0) return;
        const list = running.list;
        const made = await Promise.all(
          batch.map((item) => starter.start(context, node, { index: item, item: list[item]! })),
        );
        for (const [i, started] of made.entries()) takeStart(node, batch[i]!, started);
      }
      if (running.progress.next() !== undefined) write.more = true;
    }

    const needsOutputs = (node: number) => workflow.readsOf(node).some((need) => !context.outputs.has(need));

    for (const end of due.ends) await takeEnd(end);
    let cancel: PlannedStep['cancel'] = null;
    if (run.cancelReason !== null) {
      progress.cancel();
      cancel = await stillRunning(context);
    }
    // Fan-outs of a run that another master has stepped before: what goes on is known by its state alone.
    for (const node of progress.running)
      if (workflow.definition.nodes[node]!.forEach && !context.items.has(node)) await itemsOf(node);

    for (;;) {
      if (progress.isStopped)
        for (const [node, running] of context.items) {
          running.progress.isStopped = true;
          if (running.progress.isOver && !over.includes(node)) over.push(node);
        }
      for (const [node, running] of context.items) if (running.progress.isOver && !over.includes(node)) over.push(node);
      for (let node = over.shift(); node !== undefined; node = over.shift()) await endItems(node);
      if (progress.isStopped) {
        if ([...context.items.values()].every((running) => !running.progress.isOver)) break;
        continue;
      }
      for (const [node, running] of context.items)
        if (budget > 0) await startItems(node, running);
        else if (running.progress.next() !== undefined) write.more = true;

      const taken: number[] = [];
      const later: number[] = [];
      while (taken.length < Math.min(200, budget)) {
        const node = progress.take();
        if (node === undefined) break;
        if (workflow.readsOf(node).some((need) => unwritten.has(need))) later.push(node);
        else taken.push(node);
      }
      progress.putBack(later);
      if (later.length > 0) write.more = true;
      if (taken.length === 0) {
        if (progress.hasStartable) write.more = true;
        const isMore = [...context.items.values()].some(
          (running) => running.progress.isOver || (budget > 0 && running.progress.next() !== undefined),
        );
        if (isMore) continue;
        break;
      }
      await values.load(
        context,
        taken.flatMap((node) => workflow.readsOf(node)),
        taken.flatMap((node) => workflow.partsOf(node)),
      );
      const plain: number[] = [];
      for (const node of taken) {
        const wanted = starter.isWanted(context, node);
        if (!wanted.ok) fail(node, wanted.failure);
        else if (!wanted.value) progress.skip(node, 'its condition was false');
        else if (workflow.definition.nodes[node]!.forEach) await openItems(node);
        else plain.push(node);
      }
      const made = await Promise.all(plain.map((node) => starter.start(context, node, null)));
      for (const [i, started] of made.entries()) if (progress.isPending(plain[i]!)) takeStart(plain[i]!, null, started);
    }

    for (const [node, reason] of context.skipped) change(node, { skipReason: reason });
    context.skipped.clear();
    const standing = progress.standing;
    write.state = standing;
    if (standing === 'succeeded') await endRun(context, write);
    const failed = progress.failedNode;
    if (failed !== null) {
      write.failedNodeId = workflow.graph.nodes[failed]!.id;
      write.failure = context.failures.get(failed) ?? null;
      write.failureMessage = storableText(
        `node ${JSON.stringify(write.failedNodeId)} failed: ${write.failure?.message ?? 'no reason given'}`,
      );
    }
    if (write.state !== 'running') write.more = false;
    for (const node of progress.running) {
      if (write.currentNodes.length >= NAMED_CURRENT) break;
      (write.currentNodes as string[]).push(workflow.graph.nodes[node]!.id);
    }
    write.nodesSucceeded = progress.succeeded;
    write.nodesEnded = progress.ended;
    write.itemsTotal = run.itemsTotal;
    write.nodes = [...nodes.values()];
    write.tasks = tasks;
    write.children = children;
    write.cache = cache;
    write.endedChildIds = endedChildIds;
    for (const node of context.loaded) context.outputs.delete(node);
    context.loaded.clear();
    context.blobs.clear();
    context.contents.clear();
    return { context, write, cancel };
  };

  /** The output of a run that succeeded; where it cannot be made, the run has failed. */
  async function endRun(context: RunContext, write: RunStep): Promise<void> {
    const { workflow, run } = context;
    const { output: template } = workflow.definition;
    await values.load(context, workflow.outputReads, workflow.outputParts);
    const outputs = values.outputsOf(context, workflow.outputReads, workflow.outputParts);
    const fail = (message: string) => {
      write.state = 'failed';
      write.failure = evaluationFailure(message);
      write.failureMessage = write.failure.message;
    };
    let bytes: Uint8Array;
    const unreadable = values.unreadable(context, workflow.outputParts);
    if (unreadable !== null) return fail(`the output of the run could not be made: ${unreadable}`);
    if (template === undefined) bytes = new TextEncoder().encode(JSON.stringify(Object.fromEntries(outputs)));
    else {
      const resolved = resolveInput(
        template,
        values.inputOf(context),
        outputs,
        values.expressionContext(context, workflow.outputReads, workflow.outputParts),
      );
      if (!resolved.ok)
        return fail(`the output of the run could not be made: ${resolved.unresolved.map((u) => u.message).join('; ')}`);
      bytes = new TextEncoder().encode(JSON.stringify(resolved.value));
    }
    if (bytes.byteLength > env.settings.maxBlobBytes)
      return fail(
        `the output of the run has ${bytes.byteLength} bytes; at most ${env.settings.maxBlobBytes} are taken`,
      );
    const placed = await values.place(run.namespaceId, bytes);
    write.output = { bytes: placed.bytes, encoding: 1, blob: placed.blob === null ? null : bytesOfHex(placed.blob) };
  }

  async function stillRunning(context: RunContext): Promise<PlannedStep['cancel']> {
    const { progress, run, workflow } = context;
    if (context.cancelSent || progress.running.size === 0) return null;
    context.cancelSent = true;
    const fans: number[] = [];
    const taskIds: string[] = [];
    const childRunIds: string[] = [];
    for (const node of progress.running) {
      if (workflow.definition.nodes[node]!.forEach) fans.push(node + 1);
      else if (context.childIds[node]) childRunIds.push(context.childIds[node]!);
      else if (context.taskIds[node]) taskIds.push(context.taskIds[node]!);
    }
    if (fans.length > 0) {
      const more = await runningItems(pools.api, run.id, fans);
      taskIds.push(...more.taskIds);
      childRunIds.push(...more.childRunIds);
    }
    return { taskIds, childRunIds, reason: run.cancelReason! };
  }
}

const NO_CHANGE = {
  started: false,
  taskId: null,
  childRunId: null,
  cached: false,
  attempts: 0,
  workerId: null,
  outputHash: null,
  failure: null,
  endedAtMs: null,
} as const;

const bareNode = (nodeId: string, ordinal: number): NodeChange => ({
  ...NO_CHANGE,
  nodeId,
  ordinal,
  state: 'pending',
  skipReason: null,
  items: null,
});

const bareItem = (ordinal: number, item: number, state: ItemChange['state']): ItemChange => ({
  ...NO_CHANGE,
  ordinal,
  item,
  state,
});
