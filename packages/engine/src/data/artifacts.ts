import { artifactNameProblem, isId, MAX_ARTIFACTS, Refusal } from '@baton/domain';
import {
  type ArtifactInput,
  type ArtifactKey,
  type ArtifactRow,
  artifactHolders,
  hasArtifacts,
  type Lane,
  type LaneKey,
  listArtifacts,
  type NewArtifactInputs,
  readArtifactInputs,
  saveArtifactInputs,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import { type Capabilities, canDo, toAbility } from '../dispatch/ability.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import { isPreferenceTag, preferenceTag } from '../dispatch/preference.ts';
import type { EngineEnvironment } from '../environment.ts';
import { persist } from '../persist.ts';
import type { Blobs } from './blobs.ts';

/** Files that a task is to be handed, by name. */
export type ArtifactsWanted = Readonly<Record<string, { sha256: string; taskId?: string }>>;

export interface ArtifactFilter {
  taskId: string | null;
  runId: string | null;
  nodeId: string | null;
  name: string | null;
}

/** Files that tasks produce and others are handed. */
export interface Artifacts {
  /** Sees that they are kept, and that they stay. @throws Refusal INVALID_REQUEST, BLOB_NOT_FOUND */
  admit(namespaceId: number, wanted: ArtifactsWanted): Promise<ArtifactInput[]>;
  /** The lane for a task with these files: one that prefers the worker where they lie, if there is one and it is worth it. */
  laneFor(key: LaneKey, inputs: readonly ArtifactInput[]): Promise<Lane>;
  /** Writes what a task will be handed. Before the task is written. */
  save(inputs: NewArtifactInputs): Promise<void>;
  inputsOf(taskId: string): Promise<ArtifactInput[]>;
  /** Whether there is any; told at no cost. */
  hasAny(namespaceId: number): Promise<boolean>;
  /** Of a run, or a task. */
  list(
    namespaceId: number,
    filter: ArtifactFilter,
    after: ArtifactKey | null,
    limit: number,
  ): Promise<{ artifacts: ArtifactRow[]; next: ArtifactKey | null }>;
}

/** Less than this is fetched in no time, wherever it lies. */
export const PREFER_BYTES = 1024 * 1024;
const SHA256 = /^[0-9a-f]{64}$/;
/** Lanes that prefer a worker; beyond them none is preferred any more. */
const MAX_PREFERRING_LANES = 2_000;

export function createArtifacts(env: EngineEnvironment, lanes: LaneBook, blobs: Pick<Blobs, 'use'>): Artifacts {
  const { api, hot } = env.pools;
  const saves = createCoalescer<NewArtifactInputs, undefined>({
    endOfTurn: env.endOfTurn,
    maxItems: 500,
    inFlight: 2,
    run: async (batch) => {
      await persist(() => saveArtifactInputs(hot, batch), env.random);
      return batch.map(() => undefined);
    },
  });
  /** Lanes that were chosen here, by what they are without the preference. */
  const chosen = new Set<string>();

  /** The name of the best worker that could do it; null: none. */
  async function place(key: LaneKey, inputs: readonly ArtifactInput[]): Promise<string | null> {
    const found = await artifactHolders(api, key.namespaceId, inputs);
    const { namespaceId } = key;
    const needs = key.needs ?? null;
    const lane = { ...key, id: 0, routeId: 0, paused: false, tags: [...key.tags], needs } as Lane;
    for (const { workerId, workerName, capabilities, bytes } of found) {
      const ability = toAbility({ namespaceId, workerId, workerName, capabilities: capabilities as Capabilities });
      if (bytes >= PREFER_BYTES && canDo(ability, lane)) return workerName;
    }
    return null;
  }

  function mayPrefer(key: LaneKey, tag: string): boolean {
    const text = JSON.stringify([
      key.namespaceId,
      key.queue,
      key.kind,
      key.executor,
      key.taskClass,
      key.tags,
      key.needs,
      tag,
    ]);
    if (chosen.has(text)) return true;
    let preferring = 0;
    for (const lane of lanes.all()) if (lane.tags.some(isPreferenceTag)) preferring++;
    if (preferring >= MAX_PREFERRING_LANES) return false;
    chosen.add(text);
    return true;
  }

  return {
    async admit(namespaceId, wanted) {
      const names = Object.keys(wanted).sort();
      const violations = names.flatMap((name) => {
        const field = `task.artifacts[${JSON.stringify(name)}]`;
        const { sha256, taskId } = wanted[name]!;
        const problem = artifactNameProblem(name);
        if (problem) return [{ field, description: problem }];
        // Not all that asks has been through the validator.
        if (!SHA256.test(sha256)) return [{ field: `${field}.sha256`, description: 'is not a SHA-256 in hex' }];
        if (taskId !== undefined && !isId(taskId)) return [{ field: `${field}.task_id`, description: 'is not an id' }];
        return [];
      });
      if (names.length > MAX_ARTIFACTS)
        violations.push({ field: 'task.artifacts', description: `at most ${MAX_ARTIFACTS}` });
      if (violations.length > 0)
        throw new Refusal(
          'invalid_argument',
          'INVALID_REQUEST',
          violations.map((v) => `${v.field} ${v.description}`).join('; '),
          { violations },
        );
      return Promise.all(
        names.map(async (name) => {
          const { sha256, taskId } = wanted[name]!;
          const blob = await blobs.use(namespaceId, sha256);
          if (!blob) throw notKept(name, sha256);
          return { name, sha256, sizeBytes: blob.sizeBytes, producerTaskId: taskId ?? null };
        }),
      );
    },

    async laneFor(key, inputs) {
      const bytes = inputs.reduce((sum, input) => sum + input.sizeBytes, 0);
      // Who asked for somebody by tag has chosen.
      if (bytes < PREFER_BYTES || key.tags.some(isPreferenceTag)) return lanes.laneFor(key);
      const worker = await place(key, inputs);
      const tag = worker === null ? null : preferenceTag(worker);
      if (tag === null || !mayPrefer(key, tag)) return lanes.laneFor(key);
      return lanes.laneFor({ ...key, tags: [...key.tags, tag].sort() });
    },

    save: (inputs) => saves.add(inputs),

    async inputsOf(taskId) {
      return (await readArtifactInputs(api, [taskId])).get(taskId) ?? [];
    },

    hasAny: (namespaceId) => hasArtifacts(api, namespaceId),

    async list(namespaceId, filter, after, limit) {
      const rows = await listArtifacts(api, { namespaceId, ...filter, after, limit: limit + 1 });
      const artifacts = rows.slice(0, limit);
      const last = artifacts.at(-1);
      return { artifacts, next: rows.length > limit && last ? { taskId: last.taskId, name: last.name } : null };
    },
  };
}

function notKept(name: string, sha256: string): Refusal {
  const description = `blob ${sha256} does not exist in this namespace; upload it first`;
  return new Refusal('not_found', 'BLOB_NOT_FOUND', `artifact ${JSON.stringify(name)}: ${description}`, {
    violations: [{ field: `task.artifacts[${JSON.stringify(name)}].sha256`, description }],
  });
}
