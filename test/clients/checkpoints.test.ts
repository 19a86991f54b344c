import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BatonError, blobInput, createBaton, TaskFailed, toBatonError } from '@baton/client';
import { BlobService, CheckpointService, MasterService } from '@baton/contract';
import { startStack } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { makeBytes, makeList, measure, resumes } from './checkpoint-tasks.ts';
import { detail, post } from './curl.ts';

const MIB = 1024 * 1024;
const tasksModule = new URL('./checkpoint-tasks.ts', import.meta.url);
const stack = useStack({ tasksModule, masterEnv: { BATON_MAX_BLOB_BYTES: String(20 * MIB) } });
const client = (namespace?: string) => createBaton({ url: stack().url, namespace });
const transport = () => createGrpcTransport({ baseUrl: stack().url });
const checkpointsOf = () => createClient(CheckpointService, transport());
const blobsOf = () => createClient(BlobService, transport());
const hashOf = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');
const NOBODY = '250000000000000000';
let files = 0;
const newFile = () => join(stack().home, `file-${++files}`);

async function refused(call: Promise<unknown> | AsyncIterable<unknown>): Promise<BatonError> {
  try {
    if (Symbol.asyncIterator in call) for await (const _ of call);
    else await call;
  } catch (error) {
    return toBatonError(error);
  }
  return expect.fail('the call should have been refused');
}
async function failing(result: Promise<unknown>): Promise<TaskFailed> {
  const error = await result.then(
    () => expect.fail('the task should have failed'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(TaskFailed);
  return error as TaskFailed;
}
/** Code, reason and the fields that are wrong. */
const facts = ({ code, reason, violations }: BatonError) => [
  code,
  reason,
  ...violations.map(({ field }) => field).filter((field) => field !== ''),
];

describe('checkpoints', () => {
  test('of a task are listed, read, compared; the last five and the best stay', async () => {
    const baton = client();
    const values = [
      { value: { step: 1, layers: [1, 2] }, score: 0.1 },
      { value: { step: 2, layers: [1, 3], note: 'best' }, score: 0.9, metadata: { loss: '0.2' } },
      { value: { step: 3 }, score: 0.3 },
      ...Array.from({ length: 5 }, (_, i) => ({ value: { step: i + 4 }, metadata: { of: 'eight' } })),
    ];
    const task = await baton.submit<{ numbers: number[]; latest: number }>({ kind: 'saves', input: { values } });
    expect(await task.result()).toEqual({ numbers: [1, 2, 3, 4, 5, 6, 7, 8], latest: 8 });
    const all = await baton.checkpoints.list(task.id, { pageSize: 2 }).all();
    expect(all.map(({ number }) => number)).toEqual([8, 7, 6, 5, 4, 2]);
    expect(all[5]).toMatchObject({
      taskId: task.id,
      attempt: 1,
      epoch: 1,
      score: 0.9,
      metadata: { loss: '0.2' },
      encoding: 'json',
      inBlob: false,
      worker: 'w1',
      sha256: hashOf(JSON.stringify(values[1]!.value)),
    });
    expect(all[0]!.score).toBeUndefined();
    expect(Date.now() - all[0]!.time!.getTime()).toBeLessThan(60_000);
    expect(await (await baton.checkpoints.get(task.id)).value()).toEqual({ step: 8 });
    expect((await baton.checkpoints.get(task.id, 'best')).number).toBe(2);
    expect(await (await baton.checkpoints.get(task.id, 5)).value()).toEqual({ step: 5 });

    const { sameContent, differences } = await baton.checkpoints.compare(task.id, 2, 8);
    expect(sameContent).toBe(false);
    expect(differences.map(({ what }) => what)).toEqual(
      ['sha256', 'size_bytes', 'score', 'metadata.loss', 'metadata.of', '/step', '/layers', '/note'].toSorted(
        (a, b) => differences.findIndex((d) => d.what === a) - differences.findIndex((d) => d.what === b),
      ),
    );
    expect(differences).toContainEqual({ what: '/step', a: '2', b: '8' });
    expect(await baton.checkpoints.compare(task.id, 5, 5)).toMatchObject({ sameContent: true, differences: [] });

    const size = all.reduce((sum, each) => sum + each.sizeBytes, 0);
    expect(await baton.checkpoints.statistics(task.id)).toMatchObject({
      count: 6,
      tasks: 1,
      sizeBytes: size,
      inBlobs: 0,
      bestScore: 0.9,
    });
    expect((await baton.checkpoints.statistics()).count).toBeGreaterThanOrEqual(6);
    expect(await baton.checkpoints.prune(task.id, { keepLast: 2 })).toMatchObject({ deleted: 3 });
    expect((await baton.checkpoints.list(task.id).all()).map(({ number }) => number)).toEqual([8, 7, 2]);
    expect((await baton.checkpoints.prune(task.id, { keepLast: 1, dropBest: true })).deleted).toBe(2);
    // It has ended: nothing starts from here any more.
    await baton.checkpoints.delete(task.id, 8);
    expect(facts(await refused(baton.checkpoints.get(task.id)))).toEqual(['not_found', 'CHECKPOINT_NOT_FOUND']);
    expect(await baton.checkpoints.list(task.id).all()).toEqual([]);
  });

  test('the newest of a living task cannot be deleted, the others can', async () => {
    const baton = client();
    const file = newFile();
    const task = await baton.submit({ kind: 'saves', input: { values: [{ value: 1 }, { value: 2 }], file } });
    await expect.poll(async () => (await baton.checkpoints.list(task.id).all()).length).toBe(2);
    const error = await refused(baton.checkpoints.delete(task.id, 2));
    expect(facts(error)).toEqual(['failed_precondition', 'NEWEST_CHECKPOINT']);
    await baton.checkpoints.delete(task.id, 1);
    expect(facts(await refused(baton.checkpoints.delete(task.id, 1)))).toEqual(['not_found', 'CHECKPOINT_NOT_FOUND']);
    await writeFile(file, '');
    await task.result();
  });

  test('a retry starts from the newest; a task sees its own and no other', async () => {
    const task = await client().enqueue(resumes, undefined);
    expect(await task.result()).toEqual({ before: [0, 1, 2], first: { found: [0] }, none: 'none' });
  });

  test('large ones are blobs, and come back whole', async () => {
    const baton = client();
    const value = { weights: 'w'.repeat(3_000_000) };
    const task = await baton.submit({ kind: 'saves', input: { values: [{ value: { small: true } }] } });
    await task.result();
    const blob = await baton.blobs.put(JSON.stringify({ values: [{ value }, { value: { ...value, more: 1 } }] }), {
      encoding: 'json',
    });
    const large = await baton.submit({ kind: 'saves', input: blob });
    await large.result();
    const checkpoint = await baton.checkpoints.get(large.id, 1);
    expect(checkpoint).toMatchObject({ inBlob: true, encoding: 'json', sizeBytes: JSON.stringify(value).length });
    expect(await checkpoint.value()).toEqual(value);
    expect(await baton.checkpoints.statistics(large.id)).toMatchObject({ count: 2, inBlobs: 2 });
    const { differences } = await baton.checkpoints.compare(large.id, 1, 2);
    expect(differences.map(({ what }) => what)).toEqual(['sha256', 'size_bytes', '/more']);
  });

  test('bad requests name what is wrong', async () => {
    const baton = client();
    const task = await baton.submit({ kind: 'saves', input: { values: [{ value: 1 }] } });
    await task.result();
    const service = checkpointsOf();
    const missing = ['not_found', 'TASK_NOT_FOUND'];
    for (const taskId of [NOBODY, '9999999999999999999']) {
      for (const call of [
        () => service.listCheckpoints({ taskId }),
        () => service.getCheckpoint({ taskId }),
        () => service.compareCheckpoints({ taskId, a: 1n, b: 2n }),
        () => service.deleteCheckpoint({ taskId, number: 1n }),
        () => service.pruneCheckpoints({ taskId }),
        () => service.getCheckpointStatistics({ taskId }),
      ])
        expect(facts(await refused(call()))).toEqual(missing);
    }
    expect(facts(await refused(client('elsewhere').checkpoints.get(task.id)))).toEqual(missing);
    const wrong = (field: string) => ['invalid_argument', 'INVALID_REQUEST', field];
    expect(facts(await refused(service.listCheckpoints({ taskId: 'x' })))).toEqual(wrong('task_id'));
    expect(facts(await refused(service.listCheckpoints({ taskId: task.id, pageSize: 1001 })))).toEqual(
      wrong('page_size'),
    );
    expect(facts(await refused(service.listCheckpoints({ taskId: task.id, pageToken: 'eA' })))).toEqual([
      'invalid_argument',
      'INVALID_PAGE_TOKEN',
      'page_token',
    ]);
    expect(facts(await refused(service.getCheckpoint({ taskId: task.id, best: true, number: 1n })))).toEqual(
      wrong('best'),
    );
    expect(facts(await refused(service.compareCheckpoints({ taskId: task.id })))).toEqual([
      'invalid_argument',
      'INVALID_REQUEST',
      'a',
      'b',
    ]);
    expect(facts(await refused(service.deleteCheckpoint({ taskId: task.id })))).toEqual(wrong('number'));
    expect(facts(await refused(service.pruneCheckpoints({ taskId: task.id, keepLast: 10_001 })))).toEqual(
      wrong('keep_last'),
    );
    const none = ['not_found', 'CHECKPOINT_NOT_FOUND'];
    for (const number of [2n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(facts(await refused(service.getCheckpoint({ taskId: task.id, number })))).toEqual(none);
      expect(facts(await refused(service.compareCheckpoints({ taskId: task.id, a: 1n, b: number })))).toEqual(none);
      expect(facts(await refused(service.deleteCheckpoint({ taskId: task.id, number })))).toEqual(none);
    }
    expect(facts(await refused(baton.checkpoints.get(task.id, 'best')))).toEqual(none);
  });

  test('a worker that asks in vain is told why, and nothing is kept', async () => {
    const baton = client();
    const file = newFile();
    const task = await baton.submit({ kind: 'saves', input: { values: [], file } });
    const sql = postgres(stack().databaseUrl, { max: 1, fetch_types: false, onnotice: () => {} });
    try {
      await expect.poll(async () => (await sql`select 1 from baton.leases where task_id = ${task.id}`).length).toBe(1);
      const [lease] = await sql`select session_id from baton.leases where task_id = ${task.id}`;
      const master = createClient(MasterService, transport());
      const good = { sessionId: lease!.session_id as string, taskId: task.id, epoch: 1, saveId: 'save-0001' };
      const data = { case: 'data' as const, value: Uint8Array.of(1) };
      const save = (change: Parameters<typeof master.saveCheckpoint>[0]) =>
        refused(master.saveCheckpoint({ ...good, content: data, ...change })).then(facts);
      const wrong = (...fields: string[]) => ['invalid_argument', 'INVALID_REQUEST', ...fields];
      expect(await save({ content: { case: undefined } })).toEqual(wrong('content'));
      expect(await save({ saveId: 'short' })).toEqual(wrong('save_id'));
      expect(await save({ taskId: 'x' })).toEqual(wrong('task_id'));
      expect(await save({ sessionId: 'x' })).toEqual(wrong('session_id'));
      expect(await save({ sessionId: '' })).toEqual(wrong('session_id'));
      expect(await save({ epoch: 2 ** 32 - 1 })).toEqual(wrong('epoch'));
      expect(await save({ score: Number.NaN })).toEqual(wrong('score'));
      expect(await save({ score: Number.POSITIVE_INFINITY })).toEqual(wrong('score'));
      expect(await save({ saveId: 'save\u0000-0001' })).toEqual(wrong('save_id'));
      expect(await save({ metadata: { k: 'a\u0000b' } })).toEqual(wrong('metadata["k"]'));
      expect(await save({ metadata: { k: 'x'.repeat(70_000) } })).toEqual(wrong('metadata'));
      expect(await save({ metadata: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ''])) })).toEqual(
        wrong('metadata'),
      );
      expect(await save({ sha256: 'ab'.repeat(32) })).toEqual(['invalid_argument', 'CHECKPOINT_MISMATCH', 'sha256']);
      expect(await save({ content: { case: 'data', value: new Uint8Array(256 * 1024 + 1) } })).toEqual([
        'resource_exhausted',
        'CHECKPOINT_TOO_LARGE',
        'data',
      ]);
      const blob = { case: 'blob' as const, value: { sha256: 'ab'.repeat(32), sizeBytes: 3n } };
      expect(await save({ content: blob })).toEqual(['not_found', 'BLOB_NOT_FOUND', 'blob.sha256']);
      const stale = ['failed_precondition', 'LEASE_LOST'];
      expect(await save({ epoch: 2 })).toEqual(stale);
      expect(await save({ epoch: 0 })).toEqual(stale);
      expect(await save({ sessionId: NOBODY })).toEqual(stale);
      expect(await save({ taskId: NOBODY })).toEqual(stale);
      expect(facts(await refused(master.loadCheckpoint({ ...good, epoch: 2 })))).toEqual(stale);
      expect(facts(await refused(master.loadCheckpoint({ ...good, number: 5n })))).toEqual([
        'not_found',
        'CHECKPOINT_NOT_FOUND',
      ]);
      expect((await master.loadCheckpoint(good)).checkpoint).toBeUndefined();
      expect((await sql`select 1 from baton.checkpoints where task_id = ${task.id}`).length).toBe(0);

      // Exactly the limit; then the same again.
      const limit = {
        ...good,
        saveId: 'save-0002',
        content: { case: 'data' as const, value: new Uint8Array(256 * 1024) },
      };
      expect((await master.saveCheckpoint(limit)).number).toBe(1n);
      expect((await master.saveCheckpoint(limit)).number).toBe(1n);
      expect((await master.loadCheckpoint(good)).data.length).toBe(256 * 1024);
    } finally {
      await sql.end();
    }
    await writeFile(file, '');
    await task.result();
  });

  test('as JSON, by curl', async () => {
    const baton = client();
    const task = await baton.submit({ kind: 'saves', input: { values: [{ value: { step: 1 }, score: 2 }] } });
    await task.result();
    const listed = await post(stack().url, 'CheckpointService/ListCheckpoints', { taskId: task.id });
    expect(listed.body.checkpoints).toMatchObject([{ number: '1', score: 2, encoding: 'PAYLOAD_ENCODING_JSON' }]);
    const { status, body } = await post(stack().url, 'CheckpointService/GetCheckpoint', { taskId: task.id });
    expect([status, Buffer.from(body.data, 'base64').toString()]).toEqual([200, '{"step":1}']);
    const missing = await post(stack().url, 'CheckpointService/GetCheckpoint', { taskId: task.id, number: 7 });
    expect([missing.status, detail(missing, 'ErrorInfo').reason]).toEqual([404, 'CHECKPOINT_NOT_FOUND']);
  });
});

describe('blobs', () => {
  test('bytes, texts and streams, in and out; known bytes are not sent again', async () => {
    const baton = client();
    const bytes = new Uint8Array(randomBytes(3 * MIB + 7));
    const blob = await baton.blobs.put(bytes);
    expect(blob).toEqual({ __baton: 'blob', sha256: hashOf(bytes), sizeBytes: bytes.length, encoding: 'bytes' });
    expect(await baton.blobs.stat(blob)).toMatchObject({ sizeBytes: bytes.length, place: 'postgres' });
    expect(hashOf(await baton.blobs.get(blob).bytes())).toBe(blob.sha256);
    const parts: Uint8Array[] = [];
    for await (const part of baton.blobs.get(blob.sha256)) {
      expect(part.length).toBeLessThanOrEqual(MIB);
      parts.push(part);
    }
    expect(hashOf(Buffer.concat(parts))).toBe(blob.sha256);
    expect(hashOf(new Uint8Array(await new Response(baton.blobs.get(blob).stream()).arrayBuffer()))).toBe(blob.sha256);
    const streamed = await baton.blobs.put(new Blob([bytes.slice(0, 2 * MIB), bytes.slice(2 * MIB)]).stream());
    expect(streamed).toEqual(blob);
    expect(await baton.blobs.put(new Blob([bytes]))).toEqual(blob);
    const text = await baton.blobs.put('{"ü":[1]}', { encoding: 'json' });
    expect(text.encoding).toBe('json');
    expect(await baton.blobs.get(text).json()).toEqual({ ü: [1] });
    expect((await baton.blobs.put(new Uint8Array())).sizeBytes).toBe(0);
    expect(await baton.blobs.get(hashOf('')).bytes()).toEqual(new Uint8Array());
    const begun = await blobsOf().beginBlob({ sha256: blob.sha256 });
    expect([begun.uploadId, begun.blob?.sizeBytes]).toEqual(['', BigInt(bytes.length)]);
  });

  test('an input by blob reaches the task as bytes or as a value, and is shown with the task', async () => {
    const baton = client();
    const bytes = new Uint8Array(randomBytes(5 * MIB));
    const blob = await baton.blobs.put(bytes);
    const task = await baton.enqueue(measure, blob);
    expect(await task.result()).toEqual({ type: 'bytes', size: bytes.length, sha256: blob.sha256 });
    expect((await task.status()).input).toEqual(blob);
    const list = JSON.stringify(Array.from({ length: 500_000 }, (_, i) => i));
    expect(list.length).toBeGreaterThan(2 * MIB);
    const json = await baton.blobs.put(list, { encoding: 'json' });
    expect(await (await baton.enqueue(measure, json)).result()).toEqual({
      type: 'json',
      size: list.length,
      sha256: hashOf(list),
    });
    const named = blobInput<unknown>({ sha256: json.sha256, encoding: 'json' });
    expect(await (await baton.enqueue(measure, named)).result()).toMatchObject({ type: 'json', size: list.length });
    const keyed = { kind: 'measure', input: blob, idempotencyKey: 'by-blob' };
    const first = await baton.submit(keyed);
    expect(await baton.submit(keyed)).toMatchObject({ id: first.id, deduplicated: true });
    expect(facts(await refused(baton.submit({ ...keyed, input: json })))).toEqual([
      'failed_precondition',
      'IDEMPOTENCY_CONFLICT',
    ]);
  });

  test('a result by blob is fetched and read; a large one without is refused, naming the way out', async () => {
    const baton = client();
    const made = await baton.enqueue(makeBytes, { bytes: 6 * MIB });
    const bytes = (await made.result()) as Uint8Array;
    expect([bytes.length, bytes[4096 * 7]]).toEqual([6 * MIB, 7]);
    const { output, outputHash } = await made.status();
    expect(output).toMatchObject({ __baton: 'blob', sha256: hashOf(bytes), sizeBytes: 6 * MIB });
    expect(outputHash).toBe(hashOf(bytes));
    const list: number[] = await (await baton.enqueue(makeList, { items: 400_000 })).result();
    expect([list.length, list[399_999]]).toEqual([400_000, 399_999]);

    const failed = await failing((await baton.enqueue(makeBytes, { bytes: 2 * MIB + 1, plain: true })).result());
    expect(failed.failure).toMatchObject({ type: 'EVALUATION_ERROR', nonRetryable: true });
    expect(failed.failure.message).toMatch(/RESULT_TOO_LARGE.*blob/);
    expect(failed.attempts).toHaveLength(1);
    const tooLarge = await failing((await baton.enqueue(makeBytes, { bytes: 21 * MIB })).result());
    expect(tooLarge.failure.message).toContain(`at most ${20 * MIB} bytes`);
    const liar = await failing((await baton.submit({ kind: 'lies' })).result());
    expect(liar.failure).toMatchObject({
      type: 'EVALUATION_ERROR',
      nonRetryable: true,
      message: expect.stringContaining('BLOB_NOT_FOUND'),
    });
    expect(liar.attempts).toHaveLength(1);
  });

  test('are of one namespace', async () => {
    const blob = await client('here').blobs.put(randomBytes(10));
    expect(facts(await refused(client('there').blobs.stat(blob)))).toEqual(['not_found', 'BLOB_NOT_FOUND']);
    expect(facts(await refused(client('there').blobs.get(blob).bytes()))).toEqual(['not_found', 'BLOB_NOT_FOUND']);
    const error = await refused(client('there').submit({ kind: 'measure', input: blob }));
    expect(facts(error)).toEqual(['not_found', 'BLOB_NOT_FOUND', 'task.input_blob.sha256']);
  });

  test('bad requests name what is wrong', async () => {
    const service = blobsOf();
    const wrong = (...fields: string[]) => ['invalid_argument', 'INVALID_REQUEST', ...fields];
    const sha256 = 'ab'.repeat(32);
    expect(facts(await refused(service.beginBlob({ sha256: 'AB'.repeat(32) })))).toEqual(wrong('sha256'));
    expect(facts(await refused(service.beginBlob({ namespace: 'No!' })))).toEqual(wrong('namespace'));
    for (const sizeBytes of [BigInt(20 * MIB + 1), 2n ** 64n - 1n])
      expect(facts(await refused(service.beginBlob({ sizeBytes })))).toEqual([
        'resource_exhausted',
        'BLOB_TOO_LARGE',
        'size_bytes',
      ]);
    const { uploadId, maxChunkBytes } = await service.beginBlob({ sizeBytes: 10n });
    expect(maxChunkBytes).toBe(MIB);
    const data = Uint8Array.of(1, 2, 3);
    expect(facts(await refused(service.appendBlob({ uploadId: 'x', data })))).toEqual(wrong('upload_id'));
    expect(facts(await refused(service.appendBlob({ uploadId: '9999999999999999999', data })))).toEqual(
      wrong('upload_id'),
    );
    expect(facts(await refused(service.appendBlob({ uploadId })))).toEqual(wrong('data'));
    expect(facts(await refused(service.appendBlob({ uploadId, data: new Uint8Array(MIB + 1) })))).toEqual(
      wrong('data'),
    );
    expect(facts(await refused(service.appendBlob({ uploadId, data: new Uint8Array(11) })))).toEqual(wrong('data'));
    const unknown = ['not_found', 'BLOB_UPLOAD_NOT_FOUND'];
    expect(facts(await refused(service.appendBlob({ uploadId: NOBODY, data })))).toEqual(unknown);
    expect(facts(await refused(service.appendBlob({ uploadId, data, namespace: 'other' })))).toEqual(unknown);
    expect(facts(await refused(service.commitBlob({ uploadId: NOBODY, sha256 })))).toEqual(unknown);
    expect((await service.appendBlob({ uploadId, data })).received).toBe(3n);
    for (const offset of [4n, 2n ** 64n - 1n]) {
      const gap = await refused(service.appendBlob({ uploadId, offset, data }));
      expect([...facts(gap), gap.metadata]).toEqual(['failed_precondition', 'BLOB_GAP', { expected_offset: '3' }]);
    }
    expect((await service.appendBlob({ uploadId, data })).received).toBe(3n);
    const incomplete = await refused(service.commitBlob({ uploadId, sha256 }));
    expect([...facts(incomplete), incomplete.metadata]).toEqual([
      'failed_precondition',
      'BLOB_INCOMPLETE',
      { expected_offset: '3' },
    ]);
    await service.appendBlob({ uploadId, offset: 3n, data: new Uint8Array(7) });
    expect(facts(await refused(service.commitBlob({ uploadId, sha256 })))).toEqual([
      'invalid_argument',
      'BLOB_MISMATCH',
      'sha256',
    ]);
    expect(facts(await refused(service.commitBlob({ uploadId })))).toEqual(wrong('sha256'));
    const real = hashOf(Buffer.concat([data, Buffer.alloc(7)]));
    expect(facts(await refused(service.statBlob({ sha256: real })))).toEqual(['not_found', 'BLOB_NOT_FOUND']);
    expect((await service.commitBlob({ uploadId, sha256: real })).blob).toMatchObject({ sha256: real, sizeBytes: 10n });
    expect((await service.commitBlob({ uploadId, sha256: real })).blob).toMatchObject({ sha256: real, sizeBytes: 10n });
    expect(facts(await refused(service.readBlob({ sha256: 'x' })))).toEqual(wrong('sha256'));
    expect(facts(await refused(service.readBlob({ sha256 })))).toEqual(['not_found', 'BLOB_NOT_FOUND']);
    expect(facts(await refused(service.readBlob({ sha256: real, offset: 11n })))).toEqual(wrong('offset'));
    expect(() => blobInput('../etc/passwd')).toThrow('not a SHA-256');
    expect(facts(await refused(client().submit({ kind: 'k', input: blobInput(sha256) })))).toEqual([
      'not_found',
      'BLOB_NOT_FOUND',
      'task.input_blob.sha256',
    ]);
  });

  test('as JSON, by curl', async () => {
    const { url } = stack();
    const data = Buffer.from('hello');
    const sha256 = hashOf(data);
    const { body } = await post(url, 'BlobService/BeginBlob', { sizeBytes: 5, sha256 });
    await post(url, 'BlobService/AppendBlob', { uploadId: body.uploadId, data: data.toString('base64') });
    const committed = await post(url, 'BlobService/CommitBlob', { uploadId: body.uploadId, sha256 });
    expect(committed.body.blob).toMatchObject({ sha256, sizeBytes: '5' });
    const submitted = await post(url, 'TaskService/SubmitTask', { task: { kind: 'measure', inputBlob: { sha256 } } });
    expect(submitted.status).toBe(200);
    const read = await post(url, 'TaskService/GetTask', { taskId: submitted.body.taskId, wait: '10s' });
    expect(read.body.task).toMatchObject({
      inputBlob: { sha256, sizeBytes: '5' },
      output: { type: 'bytes', size: 5, sha256 },
    });
  });
});

test('30 MiB go through a directory, a task and back', { timeout: 300_000 }, async () => {
  const directory = join(stack().home, 'blobs');
  await using large = await startStack({ tasksModule, masterEnv: { BATON_BLOB_DIRECTORY: directory } });
  await roundTrip(large, 'directory', 30);
  expect(readdirSync(directory).filter((name) => !/^[1-9]\d*\.[0-9a-f]{16}$/.test(name))).toEqual([]);
  expect(readdirSync(directory)).toHaveLength(2);
});

test('100 MiB go through Postgres, a task and back, in bounded memory', { timeout: 300_000 }, async () => {
  await using large = await startStack({ tasksModule });
  await roundTrip(large, 'postgres', 100);
});

async function roundTrip(
  large: { readonly url: string; readonly master: { readonly pid: number } },
  place: string,
  mebibytes: number,
): Promise<void> {
  const baton = createBaton({ url: large.url });
  const metric = async (name: string) => (await baton.system.metrics([name]))[0]!.value;
  const before = await metric('baton_master_memory_bytes');
  let peak = before;
  const watching = setInterval(() => {
    void metric('baton_master_memory_bytes').then(
      (value) => {
        peak = Math.max(peak, value);
      },
      () => {},
    );
  }, 100);
  try {
    const size = mebibytes * MIB;
    const block = randomBytes(MIB);
    const expected = createHash('sha256');
    async function* blocks() {
      for (let i = 0; i < mebibytes; i++) {
        block.writeUInt32LE(i);
        expected.update(block);
        yield new Uint8Array(block);
      }
    }
    const blob = await baton.blobs.put(blocks());
    expect(blob).toMatchObject({ sizeBytes: size, sha256: expected.digest('hex') });
    expect((await baton.blobs.stat(blob)).place).toBe(place);
    const measured = await baton.enqueue(measure, blob);
    expect(await measured.result()).toEqual({ type: 'bytes', size, sha256: blob.sha256 });
    const made = await baton.enqueue(makeBytes, { bytes: size });
    expect(((await made.result()) as Uint8Array).length).toBe(size);
    expect(facts(await refused(baton.blobs.put(new Uint8Array(100 * MIB + 1))))).toEqual([
      'resource_exhausted',
      'BLOB_TOO_LARGE',
      'size_bytes',
    ]);
  } finally {
    clearInterval(watching);
  }
  console.log(`${place}: the master's memory rose from ${Math.round(before / MIB)} to ${Math.round(peak / MIB)} MiB`);
  // What went through it, there and back, is several times as much.
  expect(peak - before).toBeLessThan(200 * MIB);
}
