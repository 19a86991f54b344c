import { type FieldViolation, isStorableText, notFound, Refusal } from '@baton/domain';
import {
  type CheckpointRow,
  type CheckpointStatistics,
  checkpointStatistics,
  deleteCheckpoint,
  findTask,
  hex,
  listCheckpoints,
  loadCheckpoint,
  type NewCheckpoint,
  pruneCheckpoints,
  readCheckpoint,
  saveCheckpoint,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { createNamespaceFinder } from '../namespaces.ts';
import { persist } from '../persist.ts';
import type { Blobs } from './blobs.ts';
import { type CheckpointDifference, contentDifferences, factDifferences } from './checkpoint-differences.ts';
import { sha256 } from './digest.ts';

/** Larger ones are blobs. */
export const INLINE_CHECKPOINT_BYTES = 256 * 1024;
/** Of all keys and values together. */
const METADATA_CHARACTERS = 64 * 1024;
/** JSON checkpoints up to this size are compared value by value. */
export const COMPARABLE_BYTES = 4 * 1024 * 1024;
const MAX_DIFFERENCES = 1_000;

/** A save as a worker asks for it: `data`, or a blob that was committed before. `sha256` '': of `data`, not told. */
export interface SaveRequest extends Omit<NewCheckpoint, 'sha256' | 'data'> {
  sha256: string;
  content: { data: Uint8Array } | { blob: string };
}

export interface LeaseWord {
  taskId: string;
  epoch: number;
  sessionId: string;
}

export interface Comparison {
  a: CheckpointRow;
  b: CheckpointRow;
  sameContent: boolean;
  differences: CheckpointDifference[];
}

/** Checkpoints of tasks: `save` and `load` for whoever holds the lease, the rest for clients. */
export interface Checkpoints {
  /** The number. @throws Refusal LEASE_LOST, CHECKPOINT_TOO_LARGE, CHECKPOINT_MISMATCH, BLOB_NOT_FOUND */
  save(request: SaveRequest): Promise<string>;
  /** The newest ('0'), null where there is none, or one by number. @throws Refusal LEASE_LOST, CHECKPOINT_NOT_FOUND */
  load(lease: LeaseWord, number: string): Promise<CheckpointRow | null>;
  /** Newest first; `next` is the number to go on below. @throws Refusal TASK_NOT_FOUND, as all that follow */
  list(
    namespace: string,
    taskId: string,
    before: string | null,
    limit: number,
  ): Promise<{ checkpoints: CheckpointRow[]; next: string | null }>;
  /** @throws Refusal CHECKPOINT_NOT_FOUND */
  get(namespace: string, taskId: string, which: { number: string } | 'newest' | 'best'): Promise<CheckpointRow>;
  /** @throws Refusal CHECKPOINT_NOT_FOUND */
  compare(namespace: string, taskId: string, a: string, b: string): Promise<Comparison>;
  /** @throws Refusal CHECKPOINT_NOT_FOUND, NEWEST_CHECKPOINT */
  remove(namespace: string, taskId: string, number: string): Promise<void>;
  /** `keepLast` 0: as many as are kept by themselves. */
  prune(
    namespace: string,
    taskId: string,
    keepLast: number,
    keepBest: boolean,
  ): Promise<{ deleted: number; freedBytes: number }>;
  /** `taskId` null: of the namespace. */
  statistics(namespace: string, taskId: string | null): Promise<CheckpointStatistics>;
}

export function createCheckpoints(env: EngineEnvironment, blobs: Blobs, counters: Counters): Checkpoints {
  const { settings } = env;
  const findNamespace = createNamespaceFinder(env);
  /** No row has the number 0: in a namespace that nobody has used nothing is found. */
  const namespaceId = async (namespace: string) => (await findNamespace(namespace)) ?? 0;
  const sql = env.pools.api;

  /** @returns the namespace's id */
  async function checkTask(namespace: string, taskId: string): Promise<{ id: number; ended: boolean }> {
    const id = await namespaceId(namespace);
    const task = await findTask(sql, id, taskId);
    if (task === null) throw notFound('task', taskId);
    return { id, ended: task.ended };
  }

  async function read(taskId: string, number: string): Promise<CheckpointRow> {
    const row = await readCheckpoint(sql, taskId, { number });
    if (row === null) throw noCheckpoint(taskId, number);
    return row;
  }

  async function bytesOf(namespace: string, row: CheckpointRow): Promise<Uint8Array> {
    return row.data ?? blobs.readAll(await blobs.stat(namespace, row.sha256));
  }

  return {
    async save(request) {
      checkTexts(request);
      const { content, ...rest } = request;
      let checkpoint: NewCheckpoint;
      if ('data' in content) {
        if (content.data.byteLength > INLINE_CHECKPOINT_BYTES)
          throw new Refusal(
            'resource_exhausted',
            'CHECKPOINT_TOO_LARGE',
            `the checkpoint has ${content.data.byteLength} bytes; above ${INLINE_CHECKPOINT_BYTES} upload it and name the blob`,
            { violations: [{ field: 'data', description: `at most ${INLINE_CHECKPOINT_BYTES} bytes` }] },
          );
        const actual = hex(await sha256(content.data));
        if (request.sha256 !== '' && request.sha256 !== actual) throw mismatch('data has another SHA-256');
        checkpoint = { ...rest, sha256: actual, data: content.data };
      } else {
        if (request.sha256 !== '' && request.sha256 !== content.blob) throw mismatch('the blob has another SHA-256');
        checkpoint = { ...rest, sha256: content.blob, data: null };
      }
      const answer = await persist(() => saveCheckpoint(sql, checkpoint), env.random);
      if (!answer.held) throw leaseLost(request);
      if (answer.number === null) {
        const description = `blob ${checkpoint.sha256} does not exist in this namespace`;
        throw new Refusal('not_found', 'BLOB_NOT_FOUND', description, {
          violations: [{ field: 'blob.sha256', description }],
        });
      }
      if (!answer.repeated) {
        counters.add('baton_checkpoints_saved_total');
        await pruneCheckpoints(sql, request.taskId, settings.checkpointKeep, true).catch((error) =>
          // It is saved; the next save prunes again.
          env.log.warn('checkpoints not pruned', { task_id: request.taskId, error: String(error) }),
        );
      }
      return answer.number;
    },

    async load(lease, number) {
      const { held, checkpoint } = await persist(() => loadCheckpoint(sql, lease, number), env.random);
      if (!held) throw leaseLost(lease);
      if (checkpoint === null && number !== '0') throw noCheckpoint(lease.taskId, number);
      return checkpoint;
    },

    async list(namespace, taskId, before, limit) {
      await checkTask(namespace, taskId);
      const rows = await listCheckpoints(sql, taskId, before, limit + 1);
      const checkpoints = rows.slice(0, limit);
      return { checkpoints, next: rows.length > limit ? checkpoints.at(-1)!.number : null };
    },

    async get(namespace, taskId, which) {
      await checkTask(namespace, taskId);
      const row = await readCheckpoint(sql, taskId, which);
      if (row === null) throw noCheckpoint(taskId, typeof which === 'object' ? which.number : which);
      return row;
    },

    async compare(namespace, taskId, first, second) {
      await checkTask(namespace, taskId);
      const [a, b] = [await read(taskId, first), await read(taskId, second)];
      const sameContent = a.sha256 === b.sha256;
      const differences = factDifferences(a, b);
      const comparable = [a, b].every((row) => row.encoding === 1 && row.sizeBytes <= COMPARABLE_BYTES);
      if (!sameContent && comparable)
        differences.push(
          ...contentDifferences(await bytesOf(namespace, a), await bytesOf(namespace, b), MAX_DIFFERENCES),
        );
      return { a, b, sameContent, differences: differences.slice(0, MAX_DIFFERENCES) };
    },

    async remove(namespace, taskId, number) {
      await checkTask(namespace, taskId);
      if (await persist(() => deleteCheckpoint(sql, taskId, number), env.random)) return;
      await read(taskId, number);
      throw new Refusal(
        'failed_precondition',
        'NEWEST_CHECKPOINT',
        `checkpoint ${number} is the newest of task ${taskId}, which has not ended: a new attempt would start from it`,
      );
    },

    async prune(namespace, taskId, keepLast, keepBest) {
      await checkTask(namespace, taskId);
      return persist(() => pruneCheckpoints(sql, taskId, keepLast || settings.checkpointKeep, keepBest), env.random);
    },

    async statistics(namespace, taskId) {
      if (taskId !== null) return checkpointStatistics(sql, (await checkTask(namespace, taskId)).id, taskId);
      return checkpointStatistics(sql, await namespaceId(namespace), null);
    },
  };
}

/** Text columns cannot keep NUL or lone surrogates. */
function checkTexts({ saveId, metadata }: SaveRequest): void {
  const violations: FieldViolation[] = [];
  const description = 'must not contain NUL or lone surrogates';
  if (!isStorableText(saveId)) violations.push({ field: 'save_id', description });
  let characters = 0;
  for (const [key, value] of Object.entries(metadata ?? {})) {
    characters += key.length + value.length;
    if (!isStorableText(key) || !isStorableText(value))
      violations.push({ field: `metadata[${JSON.stringify(key)}]`, description });
  }
  if (characters > METADATA_CHARACTERS)
    violations.push({ field: 'metadata', description: `at most ${METADATA_CHARACTERS} characters in all` });
  if (violations.length > 0)
    throw new Refusal(
      'invalid_argument',
      'INVALID_REQUEST',
      violations.map((v) => `${v.field} ${v.description}`).join('; '),
      { violations },
    );
}

function mismatch(description: string): Refusal {
  return new Refusal('invalid_argument', 'CHECKPOINT_MISMATCH', description, {
    violations: [{ field: 'sha256', description }],
  });
}

function leaseLost({ taskId, epoch }: LeaseWord): Refusal {
  return new Refusal(
    'failed_precondition',
    'LEASE_LOST',
    `the lease of task ${taskId}, epoch ${epoch}, is not this session's any more`,
  );
}

function noCheckpoint(taskId: string, which: string): Refusal {
  const what =
    which === 'newest' ? 'no checkpoint' : which === 'best' ? 'no scored checkpoint' : `no checkpoint ${which}`;
  return new Refusal('not_found', 'CHECKPOINT_NOT_FOUND', `task ${taskId} has ${what}`);
}
