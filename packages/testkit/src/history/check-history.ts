import { findings, type InvariantResult } from './findings.ts';
import type { History } from './history.ts';
import { checkAcknowledged } from './invariants/acknowledged.ts';
import { checkAttemptNumbers, checkLeaseOrder } from './invariants/attempts.ts';
import { checkAuthorization } from './invariants/authorization.ts';
import { checkBreakers } from './invariants/breakers.ts';
import { checkCancels } from './invariants/cancels.ts';
import { checkCapacity } from './invariants/capacity.ts';
import { checkCheckpoints } from './invariants/checkpoints.ts';
import { checkEffects } from './invariants/effects.ts';
import { checkEventSequence } from './invariants/event-sequence.ts';
import { checkFence } from './invariants/fence.ts';
import { checkKeys } from './invariants/keys.ts';
import { checkLifeCycle } from './invariants/life-cycle.ts';
import { checkLiveness } from './invariants/liveness.ts';
import { checkRetries } from './invariants/retries.ts';
import { checkRuns } from './invariants/runs.ts';
import { checkVacuity } from './invariants/vacuity.ts';
import { MUTATIONS, type Mutation } from './mutations.ts';
import { soundHistory } from './sound-history.ts';

/** What the check of a whole history found. */
export interface HistoryReport {
  /** By invariant, 1 to 18. */
  readonly results: readonly InvariantResult[];
  /** Violations in all. */
  readonly violated: number;
}

/** Invariants 1 to 17, each a pure function. */
export const INVARIANTS: readonly ((history: History) => InvariantResult)[] = [
  checkAcknowledged,
  checkLifeCycle,
  checkAttemptNumbers,
  checkLeaseOrder,
  checkFence,
  checkCheckpoints,
  checkEventSequence,
  checkRuns,
  checkRetries,
  checkBreakers,
  checkCapacity,
  checkCancels,
  checkKeys,
  checkEffects,
  checkAuthorization,
  checkLiveness,
  checkVacuity,
];

/**
 * Checks all 18 invariants. What is looked up in a history is kept with it, so do not change one that was checked: clone it. Takes about as long as reading the history: a pass over each list, look-ups by map. The 18th, that the
 * checker finds what it should, is checked once for each process (a few milliseconds).
 */
export function checkHistory(history: History): HistoryReport {
  const results = INVARIANTS.map((check) => check(history));
  selfCheck ??= checkChecker();
  results.push(selfCheck);
  return { results, violated: results.reduce((sum, r) => sum + r.violated, 0) };
}

let selfCheck: InvariantResult | undefined;

/** 18: for each invariant a history that breaks it is found, by its number; a sound one is not. */
export function checkChecker(mutations: readonly Mutation[] = MUTATIONS): InvariantResult {
  const found = findings(18, 'the checker finds broken histories');
  const broken = (history: History) =>
    INVARIANTS.map((check) => check(history))
      .filter((r) => r.violated > 0)
      .map((r) => r.invariant);
  found.exercise();
  const sound = broken(soundHistory());
  if (sound.length > 0) found.violate(`a sound history is said to break ${sound}`);
  for (const { name, breaks, mutate } of mutations) {
    found.exercise();
    const history = structuredClone(soundHistory());
    mutate(history);
    const named = broken(history);
    if (String(named) !== String(breaks))
      found.violate(`"${name}" breaks ${breaks}; the checker names ${named.join(', ') || 'none'}`);
  }
  return found.result();
}

/** A table for people: each invariant, how often it was exercised, what broke it. */
export function showReport({ results, violated }: HistoryReport): string {
  const lines = results.map((r) => {
    const state = r.violated > 0 ? 'BROKEN' : r.exercised === 0 ? '–' : 'holds';
    return `${String(r.invariant).padStart(2)}  ${state.padEnd(6)}  ${String(r.exercised).padStart(10)}  ${String(r.violated).padStart(10)}  ${r.name}`;
  });
  const details = results.flatMap((r) => [
    ...(r.notApplicable === null ? [] : [`${String(r.invariant).padStart(2)}  not checked: ${r.notApplicable}`]),
    ...r.violations.slice(0, SHOWN).map((v) => `${String(r.invariant).padStart(2)}  ${v.message}`),
    ...(r.violated > SHOWN ? [`${String(r.invariant).padStart(2)}  … and ${r.violated - SHOWN} more`] : []),
  ]);
  return [
    ' #  state    exercised  violations  invariant',
    ...lines,
    '',
    ...details,
    ...(details.length > 0 ? [''] : []),
    violated === 0 ? 'no violations' : `${violated} violations`,
  ].join('\n');
}

const SHOWN = 10;
