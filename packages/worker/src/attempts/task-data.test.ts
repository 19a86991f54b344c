import { createHash, randomBytes } from 'node:crypto';
import {
  BlobService,
  LeaseSchema,
  MasterService,
  PayloadEncoding,
  type SaveCheckpointRequest,
  SaveCheckpointRequestSchema,
} from '@baton/contract';
import { errorDetails } from '@baton/contract/grpc';
import { silentLogger } from '@baton/telemetry';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { BlobError } from '../calls/blob-transfer.ts';
import { CheckpointError } from '../errors.ts';
import { SignBoard } from '../heartbeat/sign-board.ts';
import { ArtifactCache } from './artifact-cache.ts';
import { Attempt } from './attempt.ts';
import { TaskStopped } from './stop.ts';
import { TaskData } from './task-data.ts';

const MIB = 1024 * 1024;
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function refusal(code: Code, reason: string): ConnectError {
  const error = new ConnectError(`no: ${reason}`, code);
  error.details = [{ desc: errorDetails.ErrorInfoSchema, value: { reason, domain: 'baton' } }];
  return error;
}

/** What a master keeps, in memory; and what is to go wrong next. */
function stage(lease: MessageInitShape<typeof LeaseSchema> = {}, options: { masterKeeps?: boolean } = {}) {
  const saves: SaveCheckpointRequest[] = [];
  const calls: string[] = [];
  const faults: { method: string; error: ConnectError; after?: boolean }[] = [];
  const uploads = new Map<string, Buffer>();
  const blobs = new Map<string, Buffer>();
  const numbers = new Map<string, bigint>();
  /** Readers are cut after so many bytes; once each. */
  const cuts: number[] = [];
  const meet = (method: string, after = false) => {
    if (!after) calls.push(method);
    const index = faults.findIndex((fault) => fault.method === method && (fault.after ?? false) === after);
    if (index >= 0) throw faults.splice(index, 1)[0]!.error;
  };
  const transport = createRouterTransport((router) => {
    router.service(MasterService, {
      saveCheckpoint(request) {
        meet('save');
        if (!numbers.has(request.saveId)) {
          saves.push(request);
          numbers.set(request.saveId, BigInt(saves.length));
        }
        meet('save', true);
        return { number: numbers.get(request.saveId)! };
      },
      loadCheckpoint(request) {
        meet('load');
        const number = request.number === 0n ? saves.length : Number(request.number);
        const saved = saves[number - 1];
        if (!saved) throw refusal(Code.NotFound, 'CHECKPOINT_NOT_FOUND');
        const data = saved.content.case === 'data' ? saved.content.value : new Uint8Array();
        const size = saved.content.case === 'blob' ? saved.content.value.sizeBytes : BigInt(data.length);
        const { sha256, encoding } = saved;
        return {
          checkpoint: {
            number: BigInt(number),
            sha256,
            encoding,
            sizeBytes: size,
            inBlob: saved.content.case === 'blob',
          },
          data,
        };
      },
    });
    router.service(BlobService, {
      beginBlob({ sha256 }) {
        meet('begin');
        const known = blobs.get(sha256);
        if (known) return { blob: { sha256, sizeBytes: BigInt(known.length) } };
        const uploadId = String(uploads.size + 1);
        uploads.set(uploadId, Buffer.alloc(0));
        return { uploadId };
      },
      appendBlob({ uploadId, offset, data }) {
        meet('append');
        const there = uploads.get(uploadId)!;
        if (Number(offset) === there.length) uploads.set(uploadId, Buffer.concat([there, data]));
        meet('append', true);
        return { received: BigInt(uploads.get(uploadId)!.length) };
      },
      commitBlob({ uploadId, sha256 }) {
        meet('commit');
        const bytes = uploads.get(uploadId)!;
        if (hashOf(bytes) !== sha256) throw refusal(Code.InvalidArgument, 'BLOB_MISMATCH');
        blobs.set(sha256, bytes);
        return { blob: { sha256, sizeBytes: BigInt(bytes.length) } };
      },
      async *readBlob({ sha256, offset }) {
        meet(`read ${offset}`);
        const bytes = blobs.get(sha256);
        if (!bytes) throw refusal(Code.NotFound, 'BLOB_NOT_FOUND');
        const cut = cuts.shift();
        for (let at = Number(offset); at < bytes.length; at += MIB) {
          if (cut !== undefined && at >= cut) throw new ConnectError('the connection broke', Code.Unavailable);
          yield { offset: BigInt(at), data: bytes.subarray(at, at + MIB) };
        }
      },
    });
  });
  const lost: string[] = [];
  const data = new TaskData({
    namespace: 'n',
    sessionId: '5',
    connection: { master: createClient(MasterService, transport), blobs: createClient(BlobService, transport) },
    masterKeeps: options.masterKeeps ?? true,
    log: silentLogger,
    cache: new ArtifactCache({ directory: '/nonexistent', maxBytes: 0, log: silentLogger }),
    onLost: (attempt, reason) => {
      lost.push(reason);
      attempt.phase = 'settled';
      attempt.requestStop('lost', reason);
    },
  });
  const none = { append() {}, write: () => Promise.resolve(), board: new SignBoard(), say() {} };
  const attempt = new Attempt(
    create(LeaseSchema, { taskId: '7', epoch: 2, attempt: 1, ...lease }),
    none,
    none,
    none,
    data,
  );
  attempt.phase = 'running';
  return { attempt, saves, calls, faults, blobs, cuts, lost, data };
}

test('a save names its lease, and resolves with its number; latest follows', async () => {
  const { attempt, saves } = stage({ checkpoint: 0n });
  const { checkpoint } = attempt;
  expect(checkpoint.latest).toBe(0);
  expect(await checkpoint.save({ step: 1 }, { score: 0.5, metadata: { loss: '2' } })).toBe(1);
  expect(await checkpoint.save(Uint8Array.of(1, 2))).toBe(2);
  expect(checkpoint.latest).toBe(2);
  const json = new TextEncoder().encode('{"step":1}');
  expect(saves[0]).toMatchObject({
    namespace: 'n',
    sessionId: '5',
    taskId: '7',
    epoch: 2,
    sha256: hashOf(json),
    encoding: PayloadEncoding.JSON,
    score: 0.5,
    metadata: { loss: '2' },
    content: { case: 'data', value: json },
  });
  expect(saves[1]).toMatchObject({ encoding: PayloadEncoding.BYTES, content: { case: 'data' } });
  expect(saves[1]!.score).toBeUndefined();
  expect(new Set(saves.map((save) => save.saveId)).size).toBe(2);
});

test('what is saved is what it was at the call, in the order of the calls', async () => {
  const { attempt, saves } = stage();
  const bytes = new Uint8Array(300 * 1024);
  const state = { step: 0 };
  const all = [];
  for (let step = 1; step <= 3; step++) {
    state.step = step;
    bytes.fill(step);
    all.push(attempt.checkpoint.save(state), attempt.checkpoint.save(bytes));
  }
  bytes.fill(9);
  expect(await Promise.all(all)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(await attempt.checkpoint.load(3)).toEqual({ step: 2 });
  expect(await attempt.checkpoint.load<Uint8Array>(4)).toEqual(new Uint8Array(300 * 1024).fill(2));
  expect(saves.map((save) => save.content.case)).toEqual(['data', 'blob', 'data', 'blob', 'data', 'blob']);
});

test('a save whose answer was lost is repeated as the same save', async () => {
  const { attempt, saves, calls, faults } = stage();
  faults.push(
    { method: 'save', error: new ConnectError('cut', Code.Unavailable), after: true },
    { method: 'save', error: new ConnectError('late', Code.DeadlineExceeded), after: true },
    { method: 'save', error: refusal(Code.ResourceExhausted, 'STATEMENT_TIMEOUT') },
  );
  expect(await attempt.checkpoint.save(1)).toBe(1);
  expect(saves).toHaveLength(1);
  expect(calls).toEqual(['save', 'save', 'save', 'save']);
});

test('a lease that is lost ends the attempt, and the save with the reason of its signal', async () => {
  const { attempt, faults, lost } = stage();
  const { signal } = attempt;
  faults.push({ method: 'save', error: refusal(Code.FailedPrecondition, 'LEASE_LOST') });
  const error = await attempt.checkpoint.save(1).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TaskStopped);
  expect([signal.aborted, signal.reason]).toEqual([true, error]);
  expect((error as TaskStopped).kind).toBe('lost');
  expect(lost).toHaveLength(1);
  await expect(attempt.checkpoint.save(2)).rejects.toBe(attempt.stop);
  await expect(attempt.checkpoint.load()).rejects.toBe(attempt.stop);
});

test('an attempt that was asked to stop may still save; one that is over may not', async () => {
  const { attempt } = stage();
  attempt.requestStop('hand-back', 'the worker goes');
  expect(await attempt.checkpoint.save('last words')).toBe(1);
  attempt.phase = 'finished';
  await expect(attempt.checkpoint.save('too late')).rejects.toBeInstanceOf(CheckpointError);
});

test('tries end with the attempt', async () => {
  const { attempt, faults } = stage();
  for (let i = 0; i < 100; i++) faults.push({ method: 'save', error: new ConnectError('away', Code.Unavailable) });
  const saved = attempt.checkpoint.save(1);
  attempt.phase = 'finished';
  await expect(saved).rejects.toBeInstanceOf(CheckpointError);
});

test('what the master refuses, and what JSON cannot say, rejects with why; nobody has to listen', async () => {
  const { attempt, faults } = stage();
  faults.push({ method: 'save', error: refusal(Code.InvalidArgument, 'INVALID_REQUEST') });
  await expect(attempt.checkpoint.save(1)).rejects.toMatchObject({
    name: 'CheckpointError',
    reason: 'INVALID_REQUEST',
  });
  await expect(attempt.checkpoint.save(undefined)).rejects.toBeInstanceOf(CheckpointError);
  await expect(attempt.checkpoint.save(() => 1)).rejects.toBeInstanceOf(CheckpointError);
  await expect(attempt.checkpoint.save(1n)).rejects.toBeInstanceOf(TypeError);
  void attempt.checkpoint.save(undefined);
  expect(await attempt.checkpoint.save('fine')).toBe(1);
});

test('load: nothing where there is none, the newest, one by number, undefined for one that is gone', async () => {
  const { attempt, calls } = stage({ checkpoint: 0n });
  expect(await attempt.checkpoint.load()).toBeUndefined();
  expect(calls).toEqual([]);
  expect(await attempt.checkpoint.load(3)).toBeUndefined();
  void attempt.checkpoint.save({ a: [1] });
  void attempt.checkpoint.save(Uint8Array.of(7));
  // After what was saved before it, awaited or not.
  expect(await attempt.checkpoint.load()).toEqual(Uint8Array.of(7));
  expect(await attempt.checkpoint.load(1)).toEqual({ a: [1] });
});

test('a master of the version before does not say that there is none: the task waits for one that knows', async () => {
  const { attempt, calls, faults, saves } = stage({ checkpoint: 0n }, { masterKeeps: false });
  saves.push(
    create(SaveCheckpointRequestSchema, {
      content: { case: 'data', value: Uint8Array.of(3) },
      sha256: hashOf(Uint8Array.of(3)),
    }),
  );
  faults.push({ method: 'load', error: new ConnectError('unknown method', Code.Unimplemented) });
  expect(await attempt.checkpoint.load()).toEqual(Uint8Array.of(3));
  expect(calls).toEqual(['load', 'load']);
});

test('large ones come back whole over a connection that breaks', async () => {
  const { attempt, cuts, calls, faults } = stage();
  const bytes = new Uint8Array(randomBytes(5 * MIB + 3));
  faults.push(
    { method: 'append', error: new ConnectError('cut', Code.Unavailable), after: true },
    { method: 'append', error: new ConnectError('cut', Code.Aborted) },
  );
  await attempt.checkpoint.save(bytes);
  cuts.push(2 * MIB, 4 * MIB);
  expect(hashOf((await attempt.checkpoint.load<Uint8Array>())!)).toBe(hashOf(bytes));
  expect(calls.filter((call) => call.startsWith('read'))).toEqual(['read 0', `read ${2 * MIB}`, `read ${4 * MIB}`]);
});

test('blobs: bytes, texts and streams; of known bytes nothing is sent', async () => {
  const { attempt, blobs, calls } = stage();
  const bytes = new Uint8Array(randomBytes(2 * MIB + 100));
  const blob = await attempt.blob(bytes);
  expect(blob).toEqual({ __baton: 'blob', sha256: hashOf(bytes), sizeBytes: bytes.length, encoding: 'bytes' });
  calls.length = 0;
  expect(await attempt.blob(bytes, { encoding: 'json' })).toMatchObject({ sha256: blob.sha256, encoding: 'json' });
  expect(calls).toEqual(['begin']);
  expect((await attempt.blob('ü')).sizeBytes).toBe(2);
  async function* parts() {
    const one = new Uint8Array(700_000);
    for (let i = 0; i < 5; i++) yield one.fill(i);
  }
  const streamed = await attempt.blob(parts());
  const expected = Buffer.concat(Array.from({ length: 5 }, (_, i) => Buffer.alloc(700_000, i)));
  expect(streamed).toMatchObject({ sha256: hashOf(expected), sizeBytes: 3_500_000 });
  expect(blobs.get(streamed.sha256)!.equals(expected)).toBe(true);
  expect((await attempt.blob(new Blob(['a', 'b']).stream())).sha256).toBe(hashOf(Buffer.from('ab')));
  expect((await attempt.blob(new Blob(['a', 'b']))).sha256).toBe(hashOf(Buffer.from('ab')));
});

test('an input is fetched and verified; what is not the blob is not handed over', async () => {
  const bytes = new Uint8Array(randomBytes(3 * MIB));
  const ref = { sha256: hashOf(bytes), sizeBytes: BigInt(bytes.length) };
  const { attempt, blobs, data } = stage({ inputBlob: ref });
  await expect(data.input(attempt)).rejects.toMatchObject({ name: 'BlobError', reason: 'BLOB_NOT_FOUND' });
  blobs.set(ref.sha256, Buffer.from(bytes));
  expect(hashOf(await data.input(attempt))).toBe(ref.sha256);
  blobs.set(ref.sha256, Buffer.from(bytes).fill(1, 5, 6));
  await expect(data.input(attempt)).rejects.toBeInstanceOf(BlobError);
  blobs.set(ref.sha256, Buffer.concat([bytes, Buffer.alloc(1)]));
  await expect(data.input(attempt)).rejects.toBeInstanceOf(BlobError);
  blobs.set(ref.sha256, Buffer.from(bytes.subarray(1)));
  await expect(data.input(attempt)).rejects.toBeInstanceOf(BlobError);
});

test('an input is not fetched on when the task was cancelled', async () => {
  const bytes = Buffer.alloc(2 * MIB);
  const { attempt, blobs, data } = stage({ inputBlob: { sha256: hashOf(bytes), sizeBytes: BigInt(bytes.length) } });
  blobs.set(hashOf(bytes), bytes);
  attempt.requestStop('cancel', 'not wanted');
  await expect(data.input(attempt)).rejects.toBe(attempt.stop);
});
