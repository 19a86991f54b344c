import type { Sql } from '../database/connection.ts';
import type { Scene } from '../database/scene.fixture.ts';
import type { Grant } from '../tasks/claim.ts';
import type { Lane } from '../tasks/lanes.ts';
import { startFunctionRuns } from './function-runs.ts';
import { appendJournal, type NewJournalEntry } from './journal.ts';

/** Stores a run of a function in this lane; the run and its driver. */
export async function startedFunction(
  sql: Sql,
  stage: Scene,
  lane: Lane,
  change: { parent?: { runId: string; nodeId: string } } = {},
): Promise<{ runId: string; taskId: string }> {
  const runId = stage.nextId();
  const taskId = stage.nextId();
  await startFunctionRuns(sql, [
    {
      id: runId,
      namespaceId: 1,
      workflowName: 'f',
      workflowVersion: 1,
      release: '',
      input: new TextEncoder().encode('{}'),
      encoding: 1,
      labels: null,
      idempotency: null,
      parent: change.parent ?? null,
      driver: {
        taskId,
        routeId: lane.routeId,
        laneId: lane.id,
        priority: 0,
        maxAttempts: 4,
        startToCloseMs: 60_000,
      },
    },
  ]);
  return { runId, taskId };
}

export function entry(number: number, change: Partial<NewJournalEntry> = {}): NewJournalEntry {
  const isStep = (change.kind ?? 'step') === 'step';
  return {
    number,
    kind: 'step',
    name: `s${number}`,
    afterPosition: 0,
    ended: isStep,
    attempts: isStep ? 1 : 0,
    encoding: isStep ? 1 : null,
    output: isStep ? new TextEncoder().encode(String(number)) : null,
    failure: null,
    dueInMs: null,
    dueAtMs: null,
    refId: null,
    ...change,
  };
}

export async function append(
  sql: Sql,
  lease: Pick<Grant, 'taskId' | 'epoch' | 'sessionId'>,
  entries: NewJournalEntry[],
  seenPosition = 0,
) {
  const { taskId, epoch, sessionId } = lease;
  return (await appendJournal(sql, [{ taskId, epoch, sessionId, seenPosition, entries }])).get(taskId);
}
