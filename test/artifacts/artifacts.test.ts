import { createHash } from 'node:crypto';
import { createBaton } from '@baton/client';
import { inBothModes } from '@baton/testkit/modes';
import { describe, expect, test } from 'vitest';
import { all, flaky, make, misuse, passOn, read, texts } from './tasks.ts';

inBothModes({ tasksModule: new URL('./tasks.ts', import.meta.url), workers: 2 }, (stack) => {
  const open = () => createBaton({ url: stack().url });
  const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');

  describe('files of tasks', () => {
    test('go from one task to another, and are read by clients', async () => {
      const baton = open();
      const made = await (await baton.enqueue(make, { seed: 'one', mib: 9 })).result();
      expect(made.file).toMatchObject({
        __baton: 'artifact',
        name: 'data.bin',
        sha256: made.sha256,
        sizeBytes: 9 * 1024 * 1024,
      });
      const handle = await baton.enqueue(read, {}, { artifacts: { data: made.file } });
      expect(await handle.result()).toMatchObject({ sha256: made.sha256, sizeBytes: 9 * 1024 * 1024, names: ['data'] });
      const consumer = await baton.tasks.get(handle.id);
      expect(consumer.artifacts).toEqual({ data: { sha256: made.sha256, sizeBytes: 9 * 1024 * 1024 } });
    });

    test('are listed with the task that produced them, and can be downloaded', async () => {
      const baton = open();
      const handle = await baton.enqueue(texts, {
        files: [
          ['b.txt', 'bee'],
          ['a/a.txt', 'ay'],
          ['b.txt', 'later'],
        ],
      });
      await handle.result();
      const task = await baton.tasks.get(handle.id);
      expect(
        task.outputArtifacts?.map(({ name, sha256, sizeBytes, taskId }) => ({ name, sha256, sizeBytes, taskId })),
      ).toEqual([
        { name: 'a/a.txt', sha256: hashOf('ay'), sizeBytes: 2, taskId: handle.id },
        { name: 'b.txt', sha256: hashOf('later'), sizeBytes: 5, taskId: handle.id },
      ]);
      const listed = await baton.artifacts.list({ taskId: handle.id, pageSize: 1 }).all();
      expect(listed.map((a) => a.name)).toEqual(['a/a.txt', 'b.txt']);
      expect(await baton.artifacts.get(listed[1]!).text()).toBe('later');
      expect(listed[0]!.worker).toMatch(/^(w[12]|standalone-\d+)$/);
      const consumer = await baton.enqueue(all, null, { artifacts: { 'x/one': listed[0]!, two: listed[1]! } });
      expect(await consumer.result()).toEqual({ 'x/one': 'ay', two: 'later' });
      expect((await baton.tasks.get(consumer.id)).artifacts?.['x/one']?.taskId).toBe(handle.id);
    });

    test('of an attempt that fails are not there; those of the one that succeeds are', async () => {
      const baton = open();
      const handle = await baton.enqueue(flaky, null);
      await handle.result();
      const task = await baton.tasks.get(handle.id);
      expect(task.attempt).toBe(2);
      expect(task.outputArtifacts?.map((a) => [a.name, a.sha256])).toEqual([['both', hashOf('second')]]);
    });

    test.each([
      ['directory', 'is a directory, and an artifact is one file'],
      ['name', 'INVALID_NAME'],
      ['missing', 'it is handed none'],
      ['no file', 'cannot be read'],
      ['forgotten', 'cannot be read'],
    ])('a wrong use (%s) fails the task, saying why', async (what, why) => {
      const handle = await open().enqueue(misuse, { what });
      await expect(handle.result()).rejects.toThrow(why);
    });

    test('that are not waited for by the task are waited for by its worker', async () => {
      const baton = open();
      const handle = await baton.enqueue(misuse, { what: 'in flight' });
      await handle.result();
      expect((await baton.tasks.get(handle.id)).outputArtifacts?.map((a) => a.name)).toEqual(['f']);
    });

    test('that nobody keeps are refused at submit, and so are names that are none', async () => {
      const baton = open();
      const missing = { artifacts: { data: { sha256: 'ab'.repeat(32) } } };
      await expect(baton.enqueue(read, {}, missing)).rejects.toMatchObject({ reason: 'BLOB_NOT_FOUND' });
      const { file } = await (await baton.enqueue(make, { seed: 'x', mib: 1 })).result();
      await expect(baton.enqueue(read, {}, { artifacts: { '../x': file } })).rejects.toMatchObject({
        reason: 'INVALID_REQUEST',
      });
    });

    test('are a part of what an idempotency key stands for', async () => {
      const baton = open();
      const one = await (await baton.enqueue(make, { seed: 'k1', mib: 1 })).result();
      const two = await (await baton.enqueue(make, { seed: 'k2', mib: 1 })).result();
      const first = await baton.enqueue(read, {}, { idempotencyKey: 'k', artifacts: { data: one.file } });
      const again = await baton.enqueue(read, {}, { idempotencyKey: 'k', artifacts: { data: one.file } });
      expect(again.id).toBe(first.id);
      await expect(
        baton.enqueue(read, {}, { idempotencyKey: 'k', artifacts: { data: two.file } }),
      ).rejects.toMatchObject({ reason: 'IDEMPOTENCY_CONFLICT' });
      expect((await first.result()).sha256).toBe(one.sha256);
    });

    test('go with a task that is sent again', async () => {
      const baton = open();
      const { file, sha256 } = await (await baton.enqueue(make, { seed: 'again', mib: 2 })).result();
      const handle = await baton.enqueue(read, {}, { artifacts: { data: file } });
      await handle.result();
      const [resent] = await baton.tasks.resend([handle.id]);
      if (!resent || !('taskId' in resent)) throw new Error('it was refused');
      expect(await baton.tasks.handle(resent.taskId).result()).toMatchObject({ sha256 });
    });

    test('are handed on by durable functions', async () => {
      const run = await open().runs.start(passOn, { input: { seed: 'durable' } });
      const output = (await run.output()) as { made: string; got: string };
      expect(output.got).toBe(output.made);
      const listed = await open().artifacts.list({ runId: run.id }).all();
      expect(listed.map((a) => [a.nodeId, a.name, a.sha256])).toEqual([['make', 'data.bin', output.made]]);
    });
  });
});
