import { PayloadFormat, type Run, type Task, type TaskService, type WorkflowService } from '@baton/contract';
import type { Client } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { BatonError } from '../calls/error.ts';
import { reconnecting } from '../calls/reconnect.ts';
import type { BlobEncoding } from '../data/blob-value.ts';
import { isBlobValue } from '../data/blob-value.ts';
import type { Blobs } from '../data/blobs.ts';
import { RunCancelled, RunFailed } from '../tasks/outcome.ts';
import { decodePayload } from '../tasks/payload.ts';
import { type OutputOptions, type OutputPart, streamOutput } from '../tasks/task-streams.ts';
import { isFinalNodeState, isFinalRunState, nodeStateName, type RunStateName } from '../words.ts';
import { type RunNodeView, type RunView, runNodeView, runView } from './run-view.ts';

/** What the streams of runs read by. */
export interface RunReader {
  readonly runs: Client<typeof WorkflowService>;
  readonly tasks: Client<typeof TaskService>;
  readonly blobs: Blobs;
  readonly settings: CallSettings;
  /** Waits for the end of a run. */
  ended(runId: string, signal: AbortSignal | undefined): Promise<unknown>;
}

export interface StreamRunOptions extends CallOptions {
  /** Go on behind this place; from an earlier part. Default: from the beginning. */
  readonly cursor?: string;
}

/** How far a run is. */
export interface RunProgress<Output = unknown> {
  /** Stands behind this part. */
  readonly cursor: string;
  readonly state: RunStateName;
  readonly execution: number;
  /** Nodes, or steps of a durable function, that have ended in any way. */
  readonly stepsCompleted: number;
  /** Of a durable function: those that it has made so far. */
  readonly stepsTotal: number;
  /** Some of the nodes that run now. */
  readonly current: readonly string[];
  /** Nodes, or entries of the journal, that have changed since the part before; in the first part all. */
  readonly nodes: readonly RunNodeView[];
  /** The run was retried: what was told of its nodes before is void. */
  readonly reset: boolean;
  /** Of the run, once it has succeeded; one of more than 2 MiB is a blob's name. */
  readonly output?: Output;
  /** All else of the run; its `nodes` are empty. */
  readonly run: RunView<Output>;
}

export interface NodeOutputOptions extends OutputOptions {
  /** Of a node that runs once for each item: which. Default 0. */
  readonly item?: number;
}

export interface OutputChunksOptions extends CallOptions {
  /** Of this node, and not of the run. */
  readonly nodeId?: string;
  /** Of a node that runs once for each item: which. */
  readonly item?: number;
  /** Bytes to leave out at the beginning. Default 0. */
  readonly offset?: number;
}

export interface OutputChunk {
  /** Of the first byte. */
  readonly offset: number;
  readonly data: Uint8Array;
  /** How all bytes together are to be read. */
  readonly encoding: BlobEncoding;
}

/** See `RunHandle.stream`. */
export function streamRun<Output>(
  { runs, settings }: RunReader,
  runId: string,
  options: StreamRunOptions | undefined,
): AsyncIterable<RunProgress<Output>> {
  const { namespace } = settings;
  let cursor = options?.cursor ?? '';
  let last = '';
  return reconnecting(settings, options, {
    open: (callOptions) => runs.streamRun({ namespace, runId, cursor, format: PayloadFormat.TEXT }, callOptions),
    take: (message) => {
      const { run } = message;
      if (run === undefined) return { items: [], step: 'more' };
      cursor = message.cursor || cursor;
      const view = runView(run) as RunView<Output>;
      const isEnd = isFinalRunState(view.state) && !message.more;
      const part: RunProgress<Output> = {
        cursor,
        state: view.state,
        execution: view.execution,
        stepsCompleted: view.stepsCompleted,
        stepsTotal: view.nodesTotal,
        current: view.current,
        nodes: message.nodes.map(runNodeView),
        reset: message.reset,
        ...(view.output !== undefined && { output: view.output }),
        run: view,
      };
      // After a new connection the server begins with the run as it is: nothing new, mostly.
      const now = JSON.stringify([view.state, view.execution, view.stepsCompleted, view.current, view.waitingFor]);
      const isNew = now !== last || part.nodes.length > 0 || part.reset;
      last = now;
      return { items: isNew ? [part] : [], step: isEnd ? 'end' : 'more' };
    },
    endsWithServer: false,
  });
}

/** See `RunHandle.nodeOutput`. */
export async function* streamNodeOutput(
  reader: RunReader,
  runId: string,
  nodeId: string,
  options: NodeOutputOptions | undefined,
): AsyncGenerator<OutputPart, void, undefined> {
  const taskId = await startedTask(reader, runId, nodeId, options?.item ?? 0, options);
  if (taskId !== undefined) yield* streamOutput(reader.tasks, reader.settings, taskId, options);
}

/** The task of a node, or of an item of it, as soon as it has one; undefined: it ended without. */
async function startedTask(
  reader: RunReader,
  runId: string,
  nodeId: string,
  item: number,
  options: CallOptions | undefined,
): Promise<string | undefined> {
  let isKnown = false;
  for await (const { nodes, state, run } of streamRun(reader, runId, options && { signal: options.signal })) {
    const node = nodes.find((each) => each.nodeId === nodeId);
    isKnown ||= node !== undefined;
    // The first part has all nodes of a graph; a durable function makes its steps as it goes.
    if (!isKnown && run.form !== 'function') throw noNode(runId, nodeId);
    if (node?.taskId !== undefined) return node.taskId;
    if (node?.items !== undefined) {
      const found = await itemOf(reader, runId, nodeId, item, options);
      if (found?.taskId) return found.taskId;
    }
    if (node !== undefined && isFinalNodeState(node.state)) return undefined;
    if (isFinalRunState(state)) break;
  }
  if (!isKnown) throw noNode(runId, nodeId);
  return undefined;
}

/** See `RunHandle.outputChunks`. */
export async function* readOutputChunks(
  reader: RunReader,
  runId: string,
  options: OutputChunksOptions | undefined,
): AsyncGenerator<OutputChunk, void, undefined> {
  const { blobs } = reader;
  const from = options?.offset ?? 0;
  const payload =
    options?.nodeId === undefined
      ? (await endedRun(reader, runId, options)).outputPayload
      : await nodePayload(reader, runId, options.nodeId, options.item, options);
  const value =
    payload.case === 'outputJson' && !payload.value.startsWith('{"__baton"') ? null : decodePayload(payload);
  if (isBlobValue(value)) {
    let offset = from;
    for await (const data of blobs.readFrom(value, from, options)) {
      yield { offset, data, encoding: value.encoding };
      offset += data.byteLength;
    }
    return;
  }
  if (payload.case === undefined) return;
  const isBytes = payload.case === 'outputBytes';
  const bytes = isBytes ? payload.value : new TextEncoder().encode(payload.value as string);
  const encoding = isBytes ? 'bytes' : 'json';
  if (from < bytes.byteLength) yield { offset: from, data: bytes.subarray(from), encoding };
}

type Payload = Run['outputPayload'] | Task['outputPayload'];

async function endedRun(reader: RunReader, runId: string, options: CallOptions | undefined): Promise<Run> {
  const { runs, settings } = reader;
  for (;;) {
    await reader.ended(runId, options?.signal);
    const { run } = await callRepeatably(settings, options, () =>
      runs.getRun(
        { namespace: settings.namespace, runId, format: PayloadFormat.TEXT, view: 1 },
        requestOptions(settings, options),
      ),
    );
    const view = run && runView(run);
    if (view?.state === 'failed') throw new RunFailed(view);
    if (view?.state === 'cancelled') throw new RunCancelled(view);
    // Somebody may have retried it meanwhile.
    if (view?.state === 'succeeded') return run!;
  }
}

async function nodePayload(
  reader: RunReader,
  runId: string,
  nodeId: string,
  item: number | undefined,
  options: CallOptions | undefined,
): Promise<Payload> {
  const { settings, tasks } = reader;
  for await (const { nodes, run } of streamRun(reader, runId, options && { signal: options.signal })) {
    const node = nodes.find((each) => each.nodeId === nodeId);
    if (node === undefined || !isFinalNodeState(node.state)) continue;
    const ofItem = item === undefined ? undefined : await itemOf(reader, runId, nodeId, item, options);
    const place = item === undefined ? node : ofItem;
    if (place?.state !== 'succeeded') {
      const what = item === undefined ? `node "${nodeId}"` : `item ${item} of node "${nodeId}"`;
      throw new BatonError({
        code: 'failed_precondition',
        reason: 'NODE_NOT_SUCCEEDED',
        message: `${what} of run ${runId} is ${place?.state ?? 'not there'}: it has no output`,
      });
    }
    if (place.childRunId !== undefined) return (await endedRun(reader, place.childRunId, options)).outputPayload;
    // Made by Baton, of many outputs or in the journal: it is in the node itself.
    if (place.taskId === undefined) return { case: 'outputJson', value: JSON.stringify(node.output ?? null) };
    const { taskId } = place;
    const { task } = await callRepeatably(settings, options, () =>
      tasks.getTask(
        { namespace: run.namespace, taskId, format: PayloadFormat.TEXT },
        requestOptions(settings, options),
      ),
    );
    return task?.outputPayload ?? { case: undefined };
  }
  throw noNode(runId, nodeId);
}

async function itemOf(
  { runs, settings }: RunReader,
  runId: string,
  nodeId: string,
  item: number,
  options: CallOptions | undefined,
) {
  // A keyset page that begins behind the item before; the server's tokens are its own, so pages are read until it comes.
  for (let pageToken = ''; ; ) {
    const { items, nextPageToken } = await callRepeatably(settings, options, () =>
      runs.listRunItems(
        { namespace: settings.namespace, runId, nodeId, pageSize: 1_000, pageToken },
        requestOptions(settings, options),
      ),
    );
    const found = items.find(({ index }) => index === item);
    if (found)
      return {
        state: nodeStateName(found.state),
        taskId: found.taskId || undefined,
        childRunId: found.childRunId || undefined,
      };
    if (nextPageToken === '' || (items.at(-1)?.index ?? 0) > item) return undefined;
    pageToken = nextPageToken;
  }
}

function noNode(runId: string, nodeId: string): BatonError {
  return new BatonError({
    code: 'not_found',
    reason: 'NODE_NOT_FOUND',
    message: `run ${runId} has no node "${nodeId}"`,
  });
}
