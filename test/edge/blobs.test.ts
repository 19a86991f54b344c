import { createHash, randomBytes } from 'node:crypto';
import { createBaton, toBatonError } from '@baton/client';
import { createEdgeHandler } from '@baton/edge';
import { startStack } from '@baton/testkit';
import { expect, test } from 'vitest';

const tasksModule = new URL('../clients/checkpoint-tasks.ts', import.meta.url);
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test('blobs and checkpoints by way of the edge, beside a master that keeps its own blobs in a directory', {
  timeout: 120_000,
}, async () => {
  await using stack = await startStack({ tasksModule, masterEnv: { BATON_BLOB_DIRECTORY: 'blobs' } });
  const handler = createEdgeHandler({ databaseUrl: stack.databaseUrl });
  const edge = createBaton({ url: 'http://edge', fetch: (input, init) => handler(new Request(input, init)) });
  const master = createBaton({ url: stack.url });

  const bytes = new Uint8Array(randomBytes(3_000_000));
  const blob = await edge.blobs.put(bytes);
  expect(blob.sha256).toBe(hashOf(bytes));
  expect((await master.blobs.stat(blob)).place).toBe('postgres');
  expect(hashOf(await edge.blobs.get(blob).bytes())).toBe(blob.sha256);
  const task = await edge.submit({ kind: 'measure', input: blob });
  expect(await task.result()).toEqual({ type: 'bytes', size: bytes.length, sha256: blob.sha256 });

  const saving = await edge.submit({
    kind: 'saves',
    input: { values: [{ value: { step: 1 } }, { value: { step: 2 } }] },
  });
  await saving.result();
  expect((await edge.checkpoints.list(saving.id).all()).map(({ number }) => number)).toEqual([2, 1]);
  expect(await (await edge.checkpoints.get(saving.id)).value()).toEqual({ step: 2 });

  // What the master keeps in its directory, the edge knows of and cannot read.
  const kept = await master.blobs.put(new Uint8Array(randomBytes(100)));
  expect((await edge.blobs.stat(kept)).place).toBe('directory');
  const error = await edge.blobs.get(kept).bytes().catch(toBatonError);
  expect(error).toMatchObject({ code: 'failed_precondition', reason: 'BLOB_NOT_REACHABLE' });
  expect((await edge.blobs.put(await master.blobs.get(kept).bytes())).sha256).toBe(kept.sha256);
});
