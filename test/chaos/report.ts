import { checkHistory, type History, type HistoryReport, showReport } from '@baton/testkit/history';
import type { Load } from './load.ts';
import type { ChaosOptions } from './options.ts';
import type { Recorder } from './recorder.ts';
import type { OpenWork } from './settle.ts';
import type { Storm } from './storm.ts';

export interface ChaosReport {
  readonly seed: string;
  readonly minutes: number;
  readonly failed: boolean;
  /** Tasks whose submit was acknowledged. */
  readonly acknowledged: number;
  /** Of all tasks, nodes of runs included. */
  readonly ends: Readonly<Record<'succeeded' | 'failed' | 'cancelled', number>>;
  readonly operations: Readonly<Record<string, number>>;
  /** How operations ended. */
  readonly outcomes: Readonly<Record<'ok' | 'fail' | 'info', number>>;
  /** What they were told when they were not acknowledged, by code and reason. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly faultsFired: number;
  /** Drawn, but there was nothing to hit. */
  readonly faultsMissed: Readonly<Record<string, number>>;
  readonly staleCallsRefused: number;
  /** From the last fault until nothing was open; null: it never came to that. */
  readonly settleSeconds: number | null;
  readonly invariants: HistoryReport;
  /** What is wrong beside the invariants. */
  readonly wrong: readonly string[];
  /** Directory of the logs and the ledger; null: removed. */
  readonly logs: string | null;
}

export interface ReportParts {
  readonly options: ChaosOptions;
  readonly recorder: Recorder;
  readonly history: History;
  readonly load: Load;
  readonly stormed: Storm;
  readonly settleSeconds: number | null;
  readonly open: OpenWork;
}

export function reportOf(parts: ReportParts): ChaosReport {
  const { options, recorder, history, load, stormed, settleSeconds, open } = parts;
  const invariants = checkHistory(history);
  const wrong = [...recorder.wrong];
  if (settleSeconds === null) wrong.push(`not settled: ${JSON.stringify(open)}`);
  const ends = { succeeded: 0, failed: 0, cancelled: 0 };
  for (const { state } of history.database.outcomes) ends[state]++;
  const outcomes = { ok: 0, fail: 0, info: 0 };
  for (const { outcome } of recorder.operations) outcomes[outcome]++;
  return {
    seed: options.seed,
    minutes: options.minutes,
    failed: wrong.length > 0 || invariants.violated > 0,
    acknowledged: recorder.acknowledged.size,
    ends,
    operations: Object.fromEntries(load.performed),
    outcomes,
    refusals: counted(
      recorder.operations.flatMap(({ outcome, code, reason }) =>
        outcome === 'ok' ? [] : [reason ? `${code} ${reason}` : String(code)],
      ),
    ),
    faults: counted(stormed.fired.map(({ kind }) => kind)),
    faultsFired: stormed.fired.length,
    faultsMissed: counted(stormed.missed),
    staleCallsRefused: recorder.staleRefused,
    settleSeconds,
    invariants,
    wrong,
    logs: null,
  };
}

function counted(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

const SHOWN = 20;

/** For people. */
export function asTable(report: ChaosReport): string {
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ') || 'none';
  const { ends, outcomes } = report;
  const lines = [
    '',
    showReport(report.invariants),
    '',
    `seed                ${report.seed} (${report.minutes} minutes)`,
    `acknowledged        ${report.acknowledged} tasks`,
    `ends                ${ends.succeeded} succeeded, ${ends.failed} failed, ${ends.cancelled} cancelled`,
    `operations          ${list(report.operations)}`,
    `                    ${outcomes.ok} acknowledged, ${outcomes.fail} refused, ${outcomes.info} unknown`,
    `                    ${list(report.refusals)}`,
    `faults              ${report.faultsFired}: ${list(report.faults)}`,
    `                    nothing to hit: ${list(report.faultsMissed)}`,
    `stale calls refused ${report.staleCallsRefused}`,
    `settled             ${report.settleSeconds === null ? 'never' : `${report.settleSeconds.toFixed(1)} s after the last fault`}`,
  ];
  for (const each of report.wrong.slice(0, SHOWN)) lines.push('', each);
  if (report.logs !== null) lines.push('', `logs and ledger: ${report.logs}`);
  lines.push(report.failed ? `\nFAILED, seed ${report.seed}` : '\nNothing was violated.', '');
  return lines.join('\n');
}
