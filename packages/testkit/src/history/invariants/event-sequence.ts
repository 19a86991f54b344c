import { EVENT } from '@baton/domain';
import type { AttemptState, LogEvent } from '../database-dump.ts';
import { type Findings, findings, type InvariantResult } from '../findings.ts';
import type { History, SeenEvent, Watcher } from '../history.ts';
import { type HistoryIndex, indexHistory, push } from '../history-index.ts';

/** The events that may tell of the end of a lease. */
const ENDS: Readonly<Record<AttemptState, readonly number[]>> = {
  succeeded: [EVENT.taskSucceeded],
  cancelled: [EVENT.taskCancelled],
  // Cancelled: the cancel was acknowledged before what would have followed was written.
  failed: [EVENT.taskBackoff, EVENT.taskFailed, EVENT.taskCancelled],
  lost: [EVENT.taskReleased, EVENT.taskBackoff, EVENT.taskFailed, EVENT.taskCancelled],
  returned: [EVENT.taskReleased, EVENT.taskCancelled],
};
const LEASE_EVENTS: readonly number[] = [EVENT.taskLeased, ...new Set(Object.values(ENDS).flat())];

/**
 * 7: the events of a task have no gap, and a watcher sees exactly them, across its reconnects. No number is stored with an event:
 * its place in the log, by (xid, id, ordinal), is its number. Without a gap means that each lease has its event of grant and, behind
 * it, that of its end.
 */
export function checkEventSequence(history: History): InvariantResult {
  const found = findings(7, 'events without a gap, watchers see exactly them');
  const index = indexHistory(history);
  for (const task of history.database.tasks) if (index.hasAllEvents(task)) checkTask(task.id, index, found);
  if (!history.watchers) found.skip('no watchers were recorded');
  for (const watcher of history.watchers ?? []) checkWatcher(watcher, history, index, found);
  return found.result();
}

function checkTask(taskId: string, index: HistoryIndex, found: Findings): void {
  const grants = index.grants.get(taskId) ?? [];
  const events = index.events.get(taskId) ?? [];
  found.exercise();
  const where = { taskId };
  if (!events.some((e) => e.type === EVENT.taskSubmitted)) {
    found.violate(`there is no event of the submit of task ${taskId}`, where);
    return;
  }
  const ofLeases = events.filter((e) => LEASE_EVENTS.includes(e.type));
  let at = 0;
  for (const { epoch, attempt, ended } of grants) {
    const granted = ofLeases[at++];
    if (granted?.type !== EVENT.taskLeased || granted.attempt !== attempt) {
      found.violate(`the event of grant of epoch ${epoch} of task ${taskId} is missing`, { taskId, epoch });
      return;
    }
    if (!ended) continue;
    const end = ofLeases[at++];
    if (!end || !ENDS[ended.state].includes(end.type)) {
      found.violate(`the event of the end of epoch ${epoch} of task ${taskId} (${ended.state}) is missing`, {
        taskId,
        epoch,
      });
      return;
    }
  }
  if (ofLeases.slice(at).some((e) => e.type === EVENT.taskLeased))
    found.violate(`there is an event of a grant of task ${taskId} that no lease stands for`, where);
}

interface Group {
  /** Places in the filtered log. */
  readonly at: number[];
  readonly tokens: string[];
}

function checkWatcher(watcher: Watcher, history: History, index: HistoryIndex, found: Findings): void {
  const types = watcher.types && new Set(watcher.types);
  const taskIds = watcher.taskIds && new Set(watcher.taskIds);
  const runs = new Map(history.database.runs.map((r) => [r.id, r.namespace]));
  const log = history.database.events.filter(
    (e) =>
      keyOf(e) !== null &&
      (!types || types.has(e.type)) &&
      (!taskIds || taskIds.has(e.taskId)) &&
      (watcher.namespace === undefined ||
        (index.tasks.get(e.taskId)?.namespace ?? runs.get(e.runId)) === watcher.namespace),
  );
  const seen = watcher.connections.flatMap((c) => c.events).filter((e) => keyOf(e) !== null);
  found.exercise(seen.length);
  // A watch that began later began somewhere before its first event: the place that explains most is taken.
  const first = seen[0];
  const starts =
    watcher.from === 'beginning' || !first
      ? [0]
      : log.flatMap((e, i) => (keyOf(e) === keyOf(first) && tokenOf(e) === tokenOf(first) ? [i] : []));
  if (watcher.from === 'later' && !first) return;
  const tries = (starts.length > 0 ? starts : [0]).map((start) => compare(watcher, log, seen, start));
  const best = tries.reduce((a, b) => (b.length < a.length ? b : a));
  for (const [taskId, problem] of best)
    found.violate(
      `watcher ${watcher.name}: ${problem}`,
      taskId.startsWith('run ') ? { runId: taskId.slice(4) } : { taskId },
    );
}

/** What a watcher that began at this place of the log should not have missed, or seen. */
function compare(
  watcher: Watcher,
  log: readonly LogEvent[],
  seen: readonly SeenEvent[],
  start: number,
): [string, string][] {
  const expected = new Map<string, Group>();
  for (let i = start; i < log.length; i++) {
    const key = keyOf(log[i]!)!;
    let group = expected.get(key);
    if (!group) {
      group = { at: [], tokens: [] };
      expected.set(key, group);
    }
    group.at.push(i);
    group.tokens.push(tokenOf(log[i]!));
  }
  const got = new Map<string, string[]>();
  for (const event of seen) push(got, keyOf(event)!, tokenOf(event));

  const problems: [string, string][] = [];
  const wrongKeys = new Set<string>();
  let reached = -1;
  for (const [key, tokens] of got) {
    const group = expected.get(key);
    const wrong = tokens.findIndex((token, i) => token !== group?.tokens[i]);
    if (wrong >= 0) {
      wrongKeys.add(key);
      problems.push([key, `event ${wrong + 1} of ${key} is ${tokens[wrong]}, not ${group?.tokens[wrong] ?? 'there'}`]);
    } else reached = Math.max(reached, group!.at[tokens.length - 1]!);
  }
  const until = watcher.complete ? log.length : reached;
  for (const [key, group] of expected) {
    const next = got.get(key)?.length ?? 0;
    if (next < group.at.length && group.at[next]! < until && !wrongKeys.has(key))
      problems.push([key, `event ${next + 1} of ${key} (${group.tokens[next]}) was not seen`]);
  }
  return problems;
}

/** Events of a task, or of a run; null: of something else. */
function keyOf(event: SeenEvent | LogEvent): string | null {
  return event.taskId !== '' ? event.taskId : event.runId !== '' ? `run ${event.runId}` : null;
}

const NAMES = new Map<number, string>(Object.entries(EVENT).map(([name, type]) => [type, name]));

const tokenOf = (event: SeenEvent | LogEvent): string => `${NAMES.get(event.type) ?? event.type}/${event.attempt}`;
