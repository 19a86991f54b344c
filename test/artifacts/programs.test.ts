// Artifacts of tasks that are programs: real children, on workers with caches of their own.
import { createHash } from 'node:crypto';
import { existsSync, openAsBlob, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBaton, type SubmitOptions } from '@baton/client';
import { useStack } from '@baton/testkit/vitest';
import { expect, test, vi } from 'vitest';

const stack = useStack({ workers: 2, tasksModule: new URL('./tasks.ts', import.meta.url) });
const baton = () => createBaton({ url: stack().url });
const hashOf = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex');

/** A program of Python that speaks by `baton_task`. */
function python(name: string, body: string, more: Partial<SubmitOptions> = {}) {
  const path = join(stack().home, `${name}.py`);
  writeFileSync(
    path,
    `import baton_task, hashlib, os, time\ndef main(task):\n${body.replace(/^/gm, '    ')}\nbaton_task.run(main)\n`,
  );
  return baton().tasks.submit({
    kind: name,
    retry: { maxAttempts: 1 },
    ...more,
    executor: { type: 'process', command: ['python3', path] },
  });
}
const bash = (script: string, more: Partial<SubmitOptions> = {}) =>
  baton().tasks.submit({
    kind: 'script',
    retry: { maxAttempts: 1 },
    ...more,
    executor: { type: 'process', command: ['bash', '-c', script] },
  });
const producedBy = async (id: string) =>
  Object.fromEntries(((await baton().tasks.get(id)).outputArtifacts ?? []).map((a) => [a.name, a.sha256]));
const failureOf = async (id: string) => {
  await baton()
    .tasks.handle(id)
    .result()
    .catch(() => {});
  return (await baton().tasks.get(id)).failure;
};

test('a Python program is handed files, and leaves some that another gets on another worker', async () => {
  const made = await python(
    'makes',
    `data = os.urandom(1 << 20) * 9 + b"end"
open("model.bin", "wb").write(data)
file = task.put("model.bin", "model.bin")
open("model.bin", "wb").write(b"changed since")
os.makedirs(task.artifacts_out + "/parts")
open(task.artifacts_out + "/parts/0", "w").write("zero")
return {"file": file, "sha256": hashlib.sha256(data).hexdigest(), "worker": os.getppid()}`,
  );
  const { file, sha256 } = (await made.result()) as { file: { sha256: string }; sha256: string };
  expect(file).toEqual({ __baton: 'artifact', name: 'model.bin', sha256, sizeBytes: 9 * 2 ** 20 + 3 });
  expect(await producedBy(made.id)).toEqual({ 'model.bin': sha256, 'parts/0': hashOf('zero') });
  const parts = (await baton().artifacts.list({ taskId: made.id, name: 'parts/0' }).all())[0]!;
  const producer = (await baton().tasks.get(made.id)).attempts[0]!.worker;
  const other = producer === 'w1' ? 'w2' : 'w1';
  const read = await python(
    'reads',
    `data = open(task.artifacts["in/model"], "rb").read()
again = task.put("again", task.artifacts["in/model"])
return {"sha256": hashlib.sha256(data).hexdigest(), "names": sorted(task.artifacts), "part": open(task.artifacts_in + "/part").read(), "again": again["sha256"]}`,
    { tags: [`worker:${other}`], artifacts: { 'in/model': file, part: parts } },
  );
  expect(await read.result()).toEqual({ sha256, names: ['in/model', 'part'], part: 'zero', again: sha256 });
  expect((await baton().tasks.get(read.id)).attempts[0]!.worker).toBe(other);
});

test('nothing of an attempt that fails is kept, by whatever way it was put', async () => {
  const handle = await bash(
    `read -r start <&3
     if [ $BATON_TASK_ATTEMPT = 1 ]; then echo first > "$BATON_ARTIFACTS_OUT/first"; cp "$BATON_ARTIFACTS_OUT/first" "$BATON_TASK_DIRECTORY/f"
       echo '{"type":"put_artifact","name":"told","file":"f"}' >&4; read -r answer <&3; exit 1
     fi
     echo -n second > "$BATON_ARTIFACTS_OUT/second"`,
    { retry: { maxAttempts: 2, initialDelayMs: 10 } },
  );
  await handle.result();
  expect((await baton().tasks.get(handle.id)).attempt).toBe(2);
  expect(await producedBy(handle.id)).toEqual({ second: hashOf('second') });
});

test('a put that was not waited for is kept, one that is refused fails the task', async () => {
  const fine = await bash(
    `echo -n x > "$BATON_TASK_DIRECTORY/f"; echo '{"type":"put_artifact","name":"told","file":"f"}' >&4`,
  );
  await fine.result();
  expect(await producedBy(fine.id)).toEqual({ told: hashOf('x') });
  for (const [file, why] of [
    ['../../etc/passwd', 'outside of the task'],
    ['link', 'leads out of the task'],
  ] as const) {
    const wrong = await bash(
      `ln -s /etc/passwd "$BATON_TASK_DIRECTORY/link"; echo '{"type":"put_artifact","name":"told","file":"${file}"}' >&4`,
    );
    expect(await failureOf(wrong.id)).toMatchObject({
      type: 'EVALUATION_ERROR',
      exceptionType: 'TaskFileError',
      message: expect.stringContaining(why),
    });
    expect(await producedBy(wrong.id)).toEqual({});
  }
});

test.each([
  ['a link', 'ln -s /etc/passwd "$BATON_ARTIFACTS_OUT/p"', { exceptionType: 'TaskFileError' }],
  ['a name that is none', 'echo > "$BATON_ARTIFACTS_OUT/a\\\\b"', { exceptionType: 'ArtifactError' }],
])('what cannot be kept of the directory of outputs fails the task: %s', async (_, script, failure) => {
  const { id } = await bash(script);
  expect(await failureOf(id)).toMatchObject({ type: 'EVALUATION_ERROR', ...failure });
  expect(await producedBy(id)).toEqual({});
});

test('files of clients are handed to tasks, and to nodes by the input of a run', async () => {
  const bytes = Buffer.alloc(9_000_000, 'some bytes ');
  const path = join(stack().home, 'of-a-client');
  writeFileSync(path, bytes);
  const file = await baton().artifacts.put('of-a-client', await openAsBlob(path));
  expect(file).toEqual({ __baton: 'artifact', name: 'of-a-client', sha256: hashOf(bytes), sizeBytes: bytes.length });
  const none = await baton().artifacts.put('empty', '');
  expect(none).toMatchObject({ sha256: hashOf(''), sizeBytes: 0 });
  const script = 'sha256sum < "$BATON_ARTIFACTS_IN/data" | cut -c -64; wc -c < "$BATON_ARTIFACTS_IN/none"';
  const command = ['bash', '-c', script];
  const task = await baton().tasks.submit({
    kind: 'hash',
    executor: { type: 'process', command, output: 'stdout' },
    artifacts: { data: file, none },
  });
  expect(await task.result()).toBe(`${hashOf(bytes)}\n0\n`);
  const artifacts = { data: { $expr: 'input.file' }, none: { $expr: 'input.none' } };
  const run = await baton().runs.start(
    { name: 'of-a-client', nodes: { hash: { process: { command, output: 'stdout' }, artifacts } } },
    { input: { file, none } },
  );
  expect(await run.output()).toEqual({ hash: `${hashOf(bytes)}\n0\n` });
});

test('nodes of a workflow that are programs hand files on', async () => {
  const process = (script: string, more: object = {}) => ({ process: { command: ['bash', '-c', script], ...more } });
  const run = await baton().runs.start({
    name: 'programs',
    nodes: {
      split: process('for i in 0 1; do echo -n part-$i > "$BATON_ARTIFACTS_OUT/part-$i"; done'),
      join: {
        ...process('cat "$BATON_ARTIFACTS_IN/a" "$BATON_ARTIFACTS_IN/b"', { output: 'stdout' }),
        needs: ['split'],
        artifacts: { a: { $from: 'split', artifact: 'part-1' }, b: { $from: 'split', artifact: 'part-0' } },
      },
    },
  });
  expect(await run.output()).toEqual({ join: 'part-1part-0' });
});

test('programs and functions hand files to each other', async () => {
  const { texts, all } = await import('./tasks.ts');
  const made = await baton().enqueue(texts, { files: [['from-a-function', 'f']] });
  await made.result();
  const [artifact] = await baton().artifacts.list({ taskId: made.id }).all();
  const program = await bash(
    'cp "$BATON_ARTIFACTS_IN/x/y" "$BATON_ARTIFACTS_OUT/copy"; echo -n +p >> "$BATON_ARTIFACTS_OUT/copy"',
    {
      artifacts: { 'x/y': artifact! },
    },
  );
  await program.result();
  const [copy] = await baton().artifacts.list({ taskId: program.id }).all();
  const end = await baton().enqueue(all, null, { artifacts: { copy: copy! } });
  expect(await end.result()).toEqual({ copy: 'f+p' });
});

test('a program whose worker dies in the middle leaves nothing, and its files are there once, from the next attempt', async () => {
  const note = join(stack().home, 'worker-of-it');
  const handle = await python(
    'dies',
    `task.put("both", b"of attempt %d" % task.attempt)
if task.attempt == 1:
    task.put("first", b"first")
    open(${JSON.stringify(note)}, "w").write(str(os.getpid()))
    time.sleep(600)`,
    { retry: { maxAttempts: 3, initialDelayMs: 10 } },
  );
  await vi.waitUntil(() => existsSync(note) && readFileSync(note, 'utf8') !== '', { timeout: 20_000 });
  const worker = (await handle.status()).attempts[0]!.worker!;
  await stack().worker(worker).kill('SIGKILL');
  await handle.result();
  expect(await producedBy(handle.id)).toEqual({ both: hashOf('of attempt 2') });
});
