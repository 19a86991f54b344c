import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FailureType } from '@baton/contract';
import { type AttemptContext, TaskStopped } from '@baton/runtime';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf, start } from '../testing/attempt.ts';
import { openProcessStage } from '../testing/processes.ts';

const sha256 = 'ab'.repeat(32);

/** Artifacts as the worker keeps them: those that are handed, in a directory, and those that are put. */
function artifactsOf(handed: Record<string, string> = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'baton-handed-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  for (const [name, text] of Object.entries(handed)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  const put: Record<string, string> = {};
  const artifacts: AttemptContext['artifacts'] = {
    inputs: [],
    async put(name, source) {
      const parts: Uint8Array[] = [];
      for await (const part of source as AsyncIterable<Uint8Array>) parts.push(part);
      put[name] = Buffer.concat(parts).toString();
      return { __baton: 'artifact', name, sha256, sizeBytes: put[name].length };
    },
    get: (name) => Promise.resolve(join(directory, name)),
    directory: () => Promise.resolve(directory),
  };
  const lease = Object.fromEntries(
    Object.entries(handed).map(([name, text]) => [name, { sha256, sizeBytes: BigInt(text.length) }]),
  );
  return { directory, artifacts, put, lease };
}

test('a program finds what it is handed by name, in its start and in a directory', async () => {
  const stage = openProcessStage();
  const { artifacts, lease, directory } = artifactsOf({ 'parts/0': 'zero', data: 'dat' });
  const script = 'read -r start <&3; cat "$BATON_ARTIFACTS_IN/parts/0" "$BATON_ARTIFACTS_IN/data"; echo; echo "$start"';
  const value = { command: ['bash', '-c', script], output: 'stdout' };
  const { outcome } = start(stage.executor, { executor: { case: 'process', value }, artifacts: lease }, null, {
    artifacts,
  });
  const [text, told] = (outputOf(await outcome) as string).trim().split('\n');
  expect(text).toBe('zerodat');
  expect(JSON.parse(told!)).toMatchObject({
    artifacts: {
      'parts/0': { sha256, size_bytes: 4, file: `${directory}/parts/0` },
      data: { sha256, size_bytes: 3, file: `${directory}/data` },
    },
    artifacts_in: directory,
  });
});

test('one that is handed nothing finds two empty directories, and no worker is asked for files', async () => {
  const stage = openProcessStage();
  const script = 'ls -A "$BATON_ARTIFACTS_IN" "$BATON_ARTIFACTS_OUT" | grep -v : | tr -d "\\n"';
  expect(outputOf(await stage.bash(script, { output: 'stdout' }).outcome)).toBe('');
});

test('what lies in the directory of outputs at a success is kept, by the names of the files', async () => {
  const stage = openProcessStage();
  const { artifacts, put } = artifactsOf();
  const script = `cd "$BATON_ARTIFACTS_OUT"; mkdir -p a/b empty; echo -n one > a/b/1; echo -n two > größe.txt
    echo -n near > "$BATON_TASK_DIRECTORY/near"; ln -s "$BATON_TASK_DIRECTORY/near" link; : > nothing
    head -c 3000000 /dev/zero > large`;
  expect((await stage.bash(script, {}, null, { artifacts }).outcome).kind).toBe('success');
  expect(Object.keys(put).sort()).toEqual(['a/b/1', 'größe.txt', 'large', 'link', 'nothing']);
  expect(put).toMatchObject({ 'a/b/1': 'one', 'größe.txt': 'two', link: 'near', nothing: '' });
  expect(put.large).toHaveLength(3_000_000);
});

test('nothing of a failure is kept', async () => {
  const stage = openProcessStage();
  const { artifacts, put } = artifactsOf();
  const { outcome } = stage.bash('echo x > "$BATON_ARTIFACTS_OUT/x"; exit 1', {}, null, { artifacts });
  expect((await outcome).kind).toBe('failure');
  expect(put).toEqual({});
});

test.for([
  ['a link that leads out', 'ln -s /etc/passwd p', /"out\/p" leads out of the task's directory/],
  ['a link to a directory that leads out', 'ln -s /etc etc', /"out\/etc" leads out/],
  ['a link to one of its own directories', 'ln -s ../work w', /"out\/w" is no plain file/],
  ['a link to nothing', 'ln -s nowhere n', /no file "out\/n"/],
  ['a pipe', 'mkfifo p', /"out\/p" is no plain file/],
  ['the directory itself as a link', 'cd ..; rm -r out; ln -s /etc out', /is no directory any more/],
  ['too many files', 'touch $(seq 1001)', /more than 1000 files/],
  [
    'names without end',
    'for i in $(seq 25); do mkdir $(printf "%0200d" 0) && cd $(printf "%0200d" 0) || exit 1; done; mkdir x; touch x/y',
    /a name of \d+ characters/,
  ],
] as const)('refused in the directory of outputs: %s', async ([, script, message]) => {
  const stage = openProcessStage();
  const { artifacts, put } = artifactsOf();
  const { outcome } = stage.bash(`cd "$BATON_ARTIFACTS_OUT"; ${script}`, {}, null, { artifacts });
  expect(await outcome).toMatchObject({
    kind: 'failure',
    failure: {
      type: FailureType.EVALUATION_ERROR,
      exceptionType: 'TaskFileError',
      message: expect.stringMatching(message),
    },
  });
  expect(Object.values(put).join('')).not.toContain('root:');
});

test.for([
  ['../../../etc/passwd', /outside of the task's directory/],
  ['/etc/passwd', /outside of the task's directory/],
  ['work/link', /leads out of the task's directory/],
  ['work/through/passwd', /leads out of the task's directory/],
  ['work/pipe', /is no plain file/],
  ['work', /is no plain file/],
  ['', /outside of the task's directory/],
  ['missing', /no file "missing"/],
] as const)('a put of %j is refused with the reason', async ([file, message]) => {
  const stage = openProcessStage();
  const { artifacts, put } = artifactsOf();
  const script = `ln -s /etc/passwd link; ln -s /etc through; mkfifo pipe; read -r start <&3
    echo '${JSON.stringify({ type: 'put_artifact', id: 'p', name: 'x', file })}' >&4
    read -r answer <&3; echo "$answer"`;
  const { outcome } = stage.bash(script, { output: 'stdout_json' }, null, { artifacts });
  expect(outputOf(await outcome)).toEqual({ type: 'refused', id: 'p', message: expect.stringMatching(message) });
  expect(put).toEqual({});
});

test('a put by a message is answered by what names the file', async () => {
  const stage = openProcessStage();
  const { artifacts, put } = artifactsOf();
  const script = `read -r start <&3; echo -n hello > f; mv f "$BATON_TASK_DIRECTORY/f"
    echo "{\\"type\\":\\"put_artifact\\",\\"name\\":\\"dir/x\\",\\"file\\":\\"$BATON_TASK_DIRECTORY/f\\"}" >&4
    read -r answer <&3; echo "$answer"`;
  const { outcome } = stage.bash(script, { output: 'stdout_json' }, null, { artifacts });
  expect(outputOf(await outcome)).toEqual({
    type: 'artifact_put',
    artifact: { __baton: 'artifact', name: 'dir/x', sha256, sizeBytes: 5 },
  });
  expect(put).toEqual({ 'dir/x': 'hello' });
});

test('what cannot be fetched fails the attempt before it begins', async () => {
  const stage = openProcessStage();
  const { artifacts, lease } = artifactsOf({ data: 'x' });
  const run = (error: Error, signal = new AbortController().signal) =>
    start(
      stage.executor,
      { executor: { case: 'process', value: { command: ['touch', `${stage.directory}/begun`] } }, artifacts: lease },
      null,
      { artifacts: { ...artifacts, directory: () => Promise.reject(error) }, signal },
    ).outcome;
  expect(await run(new Error('no route'))).toMatchObject({ failure: { type: FailureType.NETWORK_ERROR } });
  const full = Object.assign(new Error('DISK_FULL: no room'), { name: 'ArtifactError' });
  expect(await run(full)).toMatchObject({
    failure: { type: FailureType.EVALUATION_ERROR, exceptionType: 'ArtifactError' },
  });
  const stopped = AbortSignal.abort(new TaskStopped('cancel', 'not wanted'));
  expect(await run(new Error('over'), stopped)).toEqual({ kind: 'cancelled' });
  expect(() => rmSync(`${stage.directory}/begun`)).toThrow('ENOENT');
});
