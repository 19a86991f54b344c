import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { isStale } from './answers.ts';

/** 17: not vacuous: most operations were acknowledged, each fault fired, at least one stale call was rejected. */
export function checkVacuity(history: History): InvariantResult {
  const found = findings(17, 'not vacuous');
  const { operations, calls, faults, settings } = history;
  if (!operations) found.skip('no operations of clients were recorded');
  else {
    found.exercise(operations.length);
    const share = operations.filter((op) => op.outcome === 'ok').length / operations.length;
    if (operations.length === 0) found.violate('nobody did anything');
    else if (share < settings.acknowledgedShare)
      found.violate(`${(share * 100).toFixed(1)} % of ${operations.length} operations were acknowledged`);
  }
  if (!faults) found.skip('faults were not recorded');
  else {
    found.exercise(faults.length);
    const fired = new Set(faults.map((f) => f.kind));
    for (const kind of settings.expectedFaults) if (!fired.has(kind)) found.violate(`the fault ${kind} never fired`);
  }
  if (!calls) found.skip('no calls of workers were recorded');
  else if (faults && faults.length > 0) {
    const stale = calls.filter(isStale).length;
    found.exercise(stale);
    if (stale === 0) found.violate('no stale call was rejected');
  }
  return found.result();
}
