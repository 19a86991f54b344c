import { PayloadFormat, type Run, type RunNode, RunSchema, type StreamRunRequest } from '@baton/contract';
import { isId, notFound, Refusal } from '@baton/domain';
import type { ClientEngine, EventHub, RunFacts, RunRow } from '@baton/engine';
import { readChangedEntries, readRun, readRunFacts, readRunNodes } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '../messages/durations.ts';
import { nodeMessages, runHead } from '../messages/run-messages.ts';
import { type ApiOptions, eitherAborts, throwIfCut } from '../wire/options.ts';
import { entryNode } from './function-handlers.ts';
import { createRunWaker } from './run-waker.ts';

/** A place in what is told of a run. */
interface Place {
  execution: number;
  /** Of the run: all changes up to it are told. */
  revision: number;
  /** Of a journal: the newest entry, and the newest outcome. */
  number: number;
  position: number;
}

const BEGINNING: Place = { execution: 0, revision: -1, number: 0, position: 0 };
const MESSAGE_NODES = 500;
const MESSAGE_BYTES = 1024 * 1024;
/** Changes of a run of 10 000 nodes are looked for once a second, of one of 100 a hundred times. */
const NODES_A_MS = 10;

interface Part {
  cursor: string;
  run: Run;
  nodes: RunNode[];
  reset: boolean;
  more: boolean;
}

/** What changes of a run, from a cursor on, until its end. */
export async function* streamRun(
  engine: ClientEngine,
  hub: EventHub | null,
  options: ApiOptions,
  request: StreamRunRequest,
  signal: AbortSignal,
): AsyncGenerator<Part> {
  const { lanes, env, workflows, runEstimates } = engine;
  const { api } = env.pools;
  const { runId, format } = request;
  const namespace = request.namespace || 'default';
  const outputs = format !== PayloadFormat.NONE;
  const namespaceId = await lanes.knownNamespaceId(namespace);
  let place = placeOf(runId, request.cursor);
  const abort = eitherAborts(signal, options.closing);
  const waker = createRunWaker(hub, runId, abort);

  async function nodesOf(row: RunRow, facts: RunFacts): Promise<{ nodes: RunNode[]; next: Place }> {
    const next = { ...place, execution: row.execution, revision: row.revision };
    if (facts.form === 'graph') {
      const rows = await readRunNodes(api, runId, outputs, place.revision);
      // A step writes all of its nodes at once: whoever sees one of them sees them all.
      for (const { revision } of rows) next.revision = Math.max(next.revision, revision);
      const definition = await workflows.definitionOf(namespaceId, row.workflowName, row.workflowVersion);
      const estimate = await runEstimates(namespaceId, row.workflowVersion, definition);
      return { nodes: nodeMessages(rows, definition, estimate, format), next };
    }
    const isEnded = ENDED.includes(row.state);
    const nodes: RunNode[] = [];
    // Entries that nothing resolves any more end with their run.
    const behind = isEnded ? BEGINNING : place;
    for (let after = 0; ; ) {
      const page = await readChangedEntries(api, runId, behind, { after, limit: MESSAGE_NODES, outputs });
      for (const entry of page) {
        next.number = Math.max(next.number, entry.number);
        next.position = Math.max(next.position, entry.position);
        const isNew = entry.number > place.number || entry.position > place.position;
        if (isNew || entry.position === 0) nodes.push(entryNode(entry, row, isEnded, format));
      }
      if (page.length < MESSAGE_NODES) return { nodes, next };
      after = page.at(-1)!.number;
    }
  }

  async function headOf(row: RunRow, facts: RunFacts): Promise<Run> {
    const head = runHead({ ...row, input: null }, namespace, format);
    if (facts.form === 'function')
      return create(RunSchema, {
        ...head,
        nodesTotal: facts.entries,
        nodesSucceeded: facts.succeeded,
        stepsCompleted: facts.resolved,
      });
    const definition = await workflows.definitionOf(namespaceId, row.workflowName, row.workflowVersion);
    const { runMs } = await runEstimates(namespaceId, row.workflowVersion, definition);
    return create(RunSchema, {
      ...head,
      form: definition.form,
      ...(runMs !== null && { estimatedDuration: durationFromMs(runMs) }),
    });
  }

  try {
    let last = '';
    while (!abort.aborted) {
      waker.reset();
      const row = isId(runId) ? await readRun(api, namespaceId, runId) : null;
      const facts = row && (await readRunFacts(api, runId));
      if (!row || !facts) throw notFound('run', runId);
      if (place.execution > row.execution) throw invalidCursor(runId);
      const reset = place.execution > 0 && place.execution !== row.execution;
      if (reset) place = BEGINNING;
      const { nodes, next } = await nodesOf(row, facts);
      const run = await headOf(row, facts);
      const now = JSON.stringify([row.state, row.execution, run.stepsCompleted, run.current, row.waitingFor]);
      if (now !== last || nodes.length > 0) {
        const parts = partsOf(nodes);
        for (const [i, part] of parts.entries()) {
          const isLast = i === parts.length - 1;
          // Who goes on in the middle of a change is told all of it again.
          const cursor = cursorOf(runId, isLast ? next : place);
          yield { cursor, run, nodes: part, reset: reset && i === 0, more: !isLast };
        }
      }
      last = now;
      place = next;
      if (ENDED.includes(row.state)) return;
      await waker.rest(row.nodesTotal / NODES_A_MS);
      await waker.changed();
    }
    throwIfCut(signal);
  } finally {
    waker.stop();
  }
}

const ENDED: readonly string[] = ['succeeded', 'failed', 'cancelled'];

/** At least one part; none is large, unless a single output is. */
function partsOf(nodes: readonly RunNode[]): RunNode[][] {
  const parts: RunNode[][] = [[]];
  let bytes = 0;
  for (const node of nodes) {
    const { case: kind, value } = node.outputPayload;
    const size =
      kind === 'outputJson' || kind === 'outputBytes' ? value.length : kind ? JSON.stringify(value).length : 0;
    const part = parts.at(-1)!;
    if (part.length > 0 && (part.length >= MESSAGE_NODES || bytes + size > MESSAGE_BYTES)) {
      parts.push([node]);
      bytes = size;
    } else {
      part.push(node);
      bytes += size;
    }
  }
  return parts;
}

function cursorOf(runId: string, { execution, revision, number, position }: Place): string {
  return [runId, execution, revision, number, position].join('.');
}

function placeOf(runId: string, cursor: string): Place {
  if (cursor === '') return BEGINNING;
  const match = /^([1-9]\d{0,18})\.(\d{1,9})\.(-1|\d{1,9})\.(\d{1,9})\.(\d{1,9})$/.exec(cursor);
  if (match?.[1] !== runId) throw invalidCursor(runId);
  const [execution, revision, number, position] = match.slice(2).map(Number) as [number, number, number, number];
  return { execution, revision, number, position };
}

function invalidCursor(runId: string): Refusal {
  return new Refusal('invalid_argument', 'INVALID_CURSOR', `this cursor is none of run ${runId}`, {
    violations: [{ field: 'cursor', description: 'of an earlier message, or empty' }],
  });
}
