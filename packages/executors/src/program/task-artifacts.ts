import { FailureType, type Lease } from '@baton/contract';
import { MAX_ARTIFACTS } from '@baton/domain';
import type { AttemptContext, FailureReport } from '@baton/runtime';
import { failureOfError } from '../failure-of-error.ts';
import type { TaskFiles } from './task-files.ts';
import type { ToTask } from './task-messages.ts';

/** Files that are taken from the directory of outputs at once. */
const atOnce = 4;

/** The directory with all that the attempt is handed, by name; undefined where that is nothing. Rejects where it cannot be fetched. */
export function handedArtifacts(lease: Lease, context: AttemptContext): Promise<string> | undefined {
  return Object.keys(lease.artifacts).length === 0 ? undefined : context.artifacts.directory();
}

/** What of it the program is told. */
export function artifactsOfStart(
  lease: Lease,
  files: TaskFiles,
): Pick<Extract<ToTask, { type: 'start' }>, 'artifacts' | 'artifacts_in' | 'artifacts_out'> {
  const entries = Object.entries(lease.artifacts).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    artifacts: Object.fromEntries(
      entries.map(([name, { sha256, sizeBytes }]) => [
        name,
        { sha256, size_bytes: Number(sizeBytes), file: files.seenArtifact(name) },
      ]),
    ),
    artifacts_in: files.artifactsIn,
    artifacts_out: files.seen('out'),
  };
}

/** That what it is handed cannot be fetched is mostly no fault of the task. */
export function failureOfHanded(error: unknown): FailureReport {
  const isArtifactError = error instanceof Error && error.name === 'ArtifactError';
  return isArtifactError ? failureOfError(error) : { ...failureOfError(error), type: FailureType.NETWORK_ERROR };
}

/** Puts all that the program has left in its directory of outputs, under the names of the files. Rejects with the first that cannot be kept. */
export async function keepOutputs(context: AttemptContext, files: TaskFiles): Promise<void> {
  const names = (await files.namesBelow('out', MAX_ARTIFACTS)).values();
  const keep = async () => {
    for (const name of names) {
      await context.artifacts.put(name, files.pieces(`out/${name}`));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, keep));
}
