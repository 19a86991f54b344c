import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type ProcessIdentity, signalProcess } from './process-identity.ts';
import type { UpState } from './up-file.ts';

const POLL_MS = 50;

/**
 * Ends the children of a supervisor that is dead: SIGTERM, and SIGKILL after the grace. They end by themselves too,
 * seconds after it; this is for whoever does not want to wait. @returns how many were there
 */
export async function stopOrphans(state: UpState, graceMs: number): Promise<number> {
  const orphans = state.children.filter((child) => isAlive(child));
  for (const orphan of orphans) signalProcess(orphan, 'SIGTERM');
  await waitUntilGone(orphans, graceMs);
  for (const orphan of orphans) signalProcess(orphan, 'SIGKILL');
  await waitUntilGone(orphans, graceMs);
  return orphans.length;
}

/** @returns whether all of them were gone in time */
export async function waitUntilGone(processes: readonly ProcessIdentity[], timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (processes.some((each) => isAlive(each))) {
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}
