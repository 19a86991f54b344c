import { PayloadEncoding, PayloadFormat, type RunNode, RunNodeSchema, type WorkflowService } from '@baton/contract';
import { isId, notFound, Refusal } from '@baton/domain';
import {
  type ClientEngine,
  type JournalRow,
  type RunFacts,
  type RunRow,
  readJournal,
  readRun,
  readRunFacts,
} from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { journalMessage } from '../messages/journal-messages.ts';
import { decodePayload, outputPayload } from '../messages/payloads.ts';
import { failureMessage } from '../messages/task-messages.ts';
import { nodeStates } from '../messages/words.ts';

const DEFAULT_ENTRIES = 1_000;
/** A page of a journal stays below what clients read. */
const PAGE_BYTES = 2 * 1024 * 1024;
/** A run's message shows so many entries; all of them are in its journal. */
const SHOWN_ENTRIES = 1_000;

/** What runs of durable functions are asked beside what all runs are. */
export function functionHandlers(
  engine: ClientEngine,
): Pick<ServiceImpl<typeof WorkflowService>, 'signalRun' | 'getRunJournal'> {
  const { functions, lanes, env } = engine;
  const { api } = env.pools;
  const idOf = (namespace: string) => lanes.knownNamespaceId(namespace || 'default');
  return {
    async signalRun(request) {
      const { bytes, encoding } = decodePayload(request.payload, '');
      return functions.signal(await idOf(request.namespace), {
        runId: request.runId,
        name: request.name,
        payload: bytes,
        encoding,
        key: request.idempotencyKey || null,
      });
    },

    async getRunJournal(request) {
      const { runId, afterNumber } = request;
      const run = isId(runId) ? await readRun(api, await idOf(request.namespace), runId) : null;
      if (!run) throw notFound('run', runId);
      const facts = await readRunFacts(api, runId);
      if (facts?.form !== 'function')
        throw new Refusal(
          'failed_precondition',
          'RUN_HAS_NO_JOURNAL',
          `run ${runId} is a graph's; only durable functions have a journal`,
        );
      const { rows, more } = await readJournal(api, runId, {
        after: afterNumber,
        limit: request.pageSize || DEFAULT_ENTRIES,
        maxBytes: PAGE_BYTES,
        outputs: !request.omitOutputs,
      });
      return {
        entries: rows.map(journalMessage),
        more,
        ...(afterNumber === 0 && {
          encoding: run.inputEncoding === 2 ? PayloadEncoding.BYTES : PayloadEncoding.JSON,
          ...(run.input !== null && { input: run.input }),
          createTime: timestampFromDate(run.createdAt),
          release: facts.release ?? '',
        }),
        now: timestampFromMs(env.now()),
      };
    },
  };
}

/** What a run of a function shows of itself: its journal stands for nodes. */
export async function functionRun(
  api: ClientEngine['env']['pools']['api'],
  row: RunRow,
  facts: RunFacts,
  format: PayloadFormat,
) {
  const isEnded = row.state === 'succeeded' || row.state === 'failed' || row.state === 'cancelled';
  const { rows } = await readJournal(api, row.id, {
    after: 0,
    limit: SHOWN_ENTRIES,
    maxBytes: PAGE_BYTES,
    outputs: format !== PayloadFormat.NONE,
  });
  return {
    nodes: rows.map((each) => entryNode(each, row, isEnded, format)),
    nodesTotal: facts.entries,
    nodesSucceeded: facts.succeeded,
    stepsCompleted: facts.resolved,
    form: 'function',
    release: facts.release ?? '',
    waitingFor: facts.waitingFor,
    parentRunId: facts.parentRunId ?? '',
    parentNodeId: facts.parentNodeId ?? '',
    ...(facts.failure && { failure: failureMessage(facts.failure) }),
  };
}

/** An entry of a journal as a node of its run. */
export function entryNode(entry: JournalRow, run: RunRow, isRunEnded: boolean, format: PayloadFormat): RunNode {
  const isOver = entry.position > 0;
  const state = isOver ? (entry.failure ? 'failed' : 'succeeded') : isRunEnded ? 'cancelled' : 'running';
  return create(RunNodeSchema, {
    nodeId: entry.name,
    kind: entry.kind,
    state: nodeStates[state],
    taskId: entry.kind === 'task' ? (entry.refId ?? '') : '',
    attempts: entry.attempts,
    startTime: timestampFromMs(entry.atMs),
    ...(entry.endedAtMs !== null && { endTime: timestampFromMs(entry.endedAtMs) }),
    execution: run.execution,
    ...(isOver && entry.failure && { failure: failureMessage(entry.failure) }),
    // No bytes of JSON stand for `undefined`.
    outputPayload: outputPayload(
      entry.output?.length === 0 && entry.encoding === 1 ? null : entry.output,
      entry.encoding,
      format,
    ),
  });
}
