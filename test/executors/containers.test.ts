// Tasks in containers: real ones, by podman's service, which speaks Docker's API.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createBaton, type SubmitOptions } from '@baton/client';
import { startContainers, type TestContainers } from '@baton/testkit';
import { useStack } from '@baton/testkit/vitest';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

// On a machine that has no podman, or whose kernel lets it make no containers, they are reported as not run.
const started = await startContainers().catch((error: Error) => {
  console.warn(`tasks in containers: NOT RUN, ${error.message}`);
  return undefined;
});
const containers = started as TestContainers;
const stack = useStack({ workers: 0 });
const baton = () => createBaton({ url: stack().url });
const MIB = 1024 * 1024;

/** Python of this machine and its helper, in an image that has busybox alone. */
const helper = dirname(fileURLToPath(import.meta.resolve('@baton/executors/baton_task.py')));
const python = ['/usr', '/lib', '/lib64', helper].map((path) => ({ source: path, target: path, readOnly: true }));

const workerEnv = () => ({
  BATON_CONTAINER_SOCKET: containers.socketPath,
  BATON_CONTAINER_MOUNTS: `${stack().home}/shared,${stack().home}/readable:ro,cache-*,${python.map(({ source }) => `${source}:ro`).join()}`,
  BATON_CONTAINER_NETWORKS: 'none,host',
  // What a daemon without CAP_SYS_RESOURCE can give.
  BATON_CONTAINER_ULIMITS: 'nofile=1024:4096,nproc=4096:4096',
  BATON_TASK_ENV: 'TOKEN',
  TOKEN: 's3cret',
  HIDDEN: 'never',
});

beforeAll(async () => {
  if (started === undefined) return;
  await stack().addWorker({ name: 'docker', env: workerEnv() });
});
afterAll(() => containers?.close());

const testOfContainers = test.skipIf(started === undefined);

/** A shell script in a container, without a network of its own. */
const sh = (script: string, more: object = {}, options: SubmitOptions = {}) =>
  baton().tasks.submit({
    kind: 'in-a-container',
    retry: { maxAttempts: 1 },
    ...options,
    executor: {
      type: 'container',
      image: containers.image,
      command: ['sh', '-c', script],
      network: 'none',
      stopGraceMs: 1_000,
      ...more,
    },
  });
const outputOf = async (script: string, more: object = {}, options: object = {}) =>
  (await sh(script, more, options)).result();
const failureOf = async (script: string, more: object = {}, options: SubmitOptions = {}) => {
  const handle = await sh(script, more, options);
  await handle.result().catch(() => {});
  const { failure } = await handle.status();
  return failure!;
};
const logsOf = async (id: string) => {
  const lines: string[] = [];
  for await (const line of baton().tasks.logs(id)) lines.push(`${line.stream}: ${line.text}`);
  return lines;
};
/** Containers that there are, running or not. */
const left = async () => (await containers.podman('ps', '--all', '--quiet')).trim().split('\n').filter(Boolean);

describe('a task in a container', () => {
  testOfContainers('reads its input from a file, and leaves its output in one', async () => {
    expect(await outputOf('cat $BATON_INPUT_FILE > $BATON_OUTPUT_FILE', {}, { input: { a: [1, 'zwei'] } })).toEqual({
      a: [1, 'zwei'],
    });
    expect(await outputOf('true')).toBeNull();
    expect(await left()).toEqual([]);
  });

  testOfContainers('or from its standard input, and prints it: as text, or its last line as JSON', async () => {
    const input = { n: 7 };
    expect(await outputOf('echo noise; cat; echo; echo', { stdin: true, output: 'stdout_json' }, { input })).toEqual(
      input,
    );
    expect(await outputOf('echo -n "grüß dich"', { output: 'stdout' })).toBe('grüß dich');
  });

  testOfContainers('writes lines that are kept as they come, of both streams', async () => {
    const handle = await sh('echo one; echo two >&2; sleep 0.2; echo -n three');
    await handle.result();
    expect((await logsOf(handle.id)).sort()).toEqual(['stderr: two', 'stdout: one', 'stdout: three']);
  });

  testOfContainers('has the variables that it asked for and may have, and nothing else of the worker', async () => {
    const text = (await outputOf(
      'env; pwd; id -u',
      { output: 'stdout', user: 'somebody' },
      { environment: { pass: ['TOKEN', 'HIDDEN'], set: { COLOR: 'blue' }, workingDirectory: '/tmp' } },
    )) as string;
    for (const line of ['TOKEN=s3cret', 'COLOR=blue', 'BATON_TASK_ATTEMPT=1', 'BATON_TASK_KIND=in-a-container'])
      expect(text).toContain(line);
    expect(text).not.toMatch(/HIDDEN|DATABASE_URL|BATON_URL/);
    expect(text.trimEnd().split('\n').slice(-2)).toEqual(['/tmp', '1000']);
  });

  testOfContainers('has the mounts that the worker allows, and the limits that it asks for', async () => {
    const { mkdirSync, writeFileSync, readFileSync } = await import('node:fs');
    for (const name of ['shared', 'readable']) mkdirSync(`${stack().home}/${name}`, { recursive: true });
    writeFileSync(`${stack().home}/readable/word`, 'hello');
    await outputOf('cat /in/word > /out/copy; touch /in/x || touch /out/refused', {
      mounts: [
        { source: `${stack().home}/readable`, target: '/in', readOnly: true },
        { source: `${stack().home}/shared`, target: '/out' },
      ],
    });
    expect(readFileSync(`${stack().home}/shared/copy`, 'utf8')).toBe('hello');
    expect(readFileSync(`${stack().home}/shared/refused`, 'utf8')).toBe('');
    expect(await failureOf('touch /x', { readOnly: true })).toMatchObject({ exceptionType: 'exit 1' });
  });
});

describe('artifacts of a container', () => {
  testOfContainers('are handed for reading alone, and left in a directory', async () => {
    const made = await sh(
      `mkdir $BATON_ARTIFACTS_OUT/parts; echo -n zero > $BATON_ARTIFACTS_OUT/parts/0; head -c 5000000 /dev/zero > $BATON_ARTIFACTS_OUT/large
       ls $BATON_ARTIFACTS_IN | wc -l > $BATON_OUTPUT_FILE`,
      { user: 'somebody' },
    );
    expect(await made.result()).toBe(0);
    const produced = await baton().artifacts.list({ taskId: made.id }).all();
    expect(produced.map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([
      ['large', 5_000_000],
      ['parts/0', 4],
    ]);
    const text = await outputOf(
      'cat $BATON_ARTIFACTS_IN/a/b; wc -c < $BATON_ARTIFACTS_IN/large; id -u; echo x > $BATON_ARTIFACTS_IN/a/b || echo refused; touch $BATON_ARTIFACTS_IN/new || echo refused',
      { output: 'stdout', user: 'somebody' },
      { artifacts: { 'a/b': produced[1]!, large: produced[0]! } },
    );
    expect(text).toBe('zero5000000\n1000\nrefused\nrefused\n');
    const asRoot = await outputOf(
      'echo x > $BATON_ARTIFACTS_IN/a/b || echo refused; rm -f $BATON_ARTIFACTS_IN/a/b || echo refused; cat $BATON_ARTIFACTS_IN/a/b',
      { output: 'stdout' },
      { artifacts: { 'a/b': produced[1]! } },
    );
    expect(asRoot).toBe('refused\nrefused\nzero');
    expect(await left()).toEqual([]);
  });

  testOfContainers('are put by the helper of Python over the socket', async () => {
    const code = `import baton_task
def main(task):
    task.put("by-path", task.artifacts["data"])
    try:
        task._link.call({"type": "put_artifact", "name": "by-path", "file": "/etc/passwd"})
    except baton_task.Refused as refused:
        task.log(refused)
    return task.put("by-bytes", b"of a container")
baton_task.run(main)`;
    const data = await baton().artifacts.put('data', 'x'.repeat(3_000_000));
    const put = (program: string) =>
      sh(
        '',
        { command: ['python3', '-c', program], mounts: python },
        {
          artifacts: { data },
          environment: { set: { PYTHONPATH: helper, PATH: '/usr/local/bin:/usr/bin:/bin' } },
        },
      );
    const refused = await put(code);
    await refused.result().catch(() => {});
    expect((await refused.status()).failure).toMatchObject({ exceptionType: 'TaskFileError' });
    expect(await logsOf(refused.id)).toContainEqual(expect.stringContaining("is outside of the task's directory"));
    const fine = await put(code.replace(/ {4}try:[\s\S]*?(?= {4}return)/, ''));
    expect(await fine.result()).toMatchObject({ __baton: 'artifact', name: 'by-bytes', sizeBytes: 14 });
    const kept = await baton().artifacts.list({ taskId: fine.id }).all();
    expect(kept.map(({ name, sha256 }) => [name, sha256 === data.sha256])).toEqual([
      ['by-bytes', false],
      ['by-path', true],
    ]);
  });

  testOfContainers('are not kept of one that fails, nor where they lead out of it', async () => {
    const kept = async (id: string) => (await baton().artifacts.list({ taskId: id }).all()).map(({ name }) => name);
    const failed = await sh('echo x > $BATON_ARTIFACTS_OUT/x; exit 1');
    await failed.result().catch(() => {});
    expect(await kept(failed.id)).toEqual([]);
    const out = await sh('ln -s /etc/shadow $BATON_ARTIFACTS_OUT/x; ln -s /etc $BATON_ARTIFACTS_OUT/etc');
    await out.result().catch(() => {});
    expect((await out.status()).failure).toMatchObject({
      exceptionType: 'TaskFileError',
      message: expect.stringContaining('leads out'),
    });
    expect(await kept(out.id)).toEqual([]);
  });
});

describe('a container that fails', () => {
  testOfContainers('by its exit code, with the end of what it said', async () => {
    expect(await failureOf('echo first; echo "no such household" >&2; exit 3')).toMatchObject({
      type: 'EVALUATION_ERROR',
      exceptionType: 'exit 3',
      message: expect.stringContaining('no such household'),
    });
    expect(await failureOf('sleep 100 & kill -9 $!; wait $!; exit $?')).toMatchObject({ type: 'OUT_OF_MEMORY' });
    const permanent = await sh('exit 9', { permanentExitCodes: [9] }, { retry: { maxAttempts: 5, initialDelayMs: 1 } });
    await permanent.result().catch(() => {});
    expect((await permanent.status()).attempt).toBe(1);
  });

  testOfContainers('for its memory', async () => {
    expect(await failureOf('tail -c 200m /dev/zero', { memoryBytes: 32 * MIB })).toMatchObject({
      type: 'OUT_OF_MEMORY',
      message: expect.stringContaining(String(32 * MIB)),
    });
  });

  testOfContainers('for an image, a command or an output that is not there', async () => {
    expect(await failureOf('true', { image: 'localhost/no/such:image', pullPolicy: 'never' })).toMatchObject({
      exceptionType: 'ImageError',
      message: expect.stringContaining('is not to be pulled'),
    });
    expect(await failureOf('true', { image: 'localhost:1/no/such:image' })).toMatchObject({
      exceptionType: 'ImageError',
      message: expect.stringContaining('cannot be pulled'),
    });
    expect(await failureOf('true', { command: ['/no/such/program'] })).toMatchObject({
      message: expect.stringContaining('/no/such/program'),
    });
    expect(await failureOf('true', { output: 'file' })).toMatchObject({
      message: expect.stringContaining('there is no file "output"'),
    });
    expect(await failureOf('echo {', { output: 'stdout_json' })).toMatchObject({
      message: expect.stringContaining('its output cannot be taken'),
    });
    expect(await left()).toEqual([]);
  });

  testOfContainers('for what the worker does not allow, all of it named', async () => {
    const { message } = await failureOf('true', {
      network: 'bridge',
      mounts: [
        { source: '/etc', target: '/x' },
        { source: `${stack().home}/shared/../../secrets`, target: '/y' },
        { source: `${stack().home}/readable`, target: '/z' },
        { source: 'other-volume', target: '/v' },
        { source: 'cache-1', target: '/baton' },
      ],
    });
    for (const part of ['network bridge', '/etc', 'secrets', 'read_only', 'other-volume', '/baton'])
      expect(message).toContain(part);
  });
});

describe('a container that is stopped', () => {
  testOfContainers('on cancel: SIGTERM, then SIGKILL, and all that it started goes with it', async () => {
    const handle = await sh(
      'trap "echo asked to stop" TERM; (setsid sleep 1000 &) ; echo up; while true; do sleep 1; done',
    );
    for await (const line of handle.logs({ follow: true })) if (line.text === 'up') break;
    await handle.cancel('enough');
    await expect(handle.result()).rejects.toMatchObject({ name: 'TaskCancelled' });
    expect(await left()).toEqual([]);
    expect(await logsOf(handle.id)).toContain('stdout: asked to stop');
  });

  testOfContainers('at the end of its time', async () => {
    expect(await failureOf('sleep 1000', {}, { startToCloseTimeoutMs: 1_000 })).toMatchObject({ type: 'TASK_TIMEOUT' });
    expect(await left()).toEqual([]);
  });
});

testOfContainers('100 MB on the standard output are read, cut off in the log, and hold nothing up', async () => {
  const handle = await sh('yes 0123456789012345678901234567890123456789 | head -c 100000000; echo; echo done', {
    maxLogBytes: 100_000,
  });
  expect(await handle.result()).toBeNull();
  const lines = await logsOf(handle.id);
  expect(lines.length).toBeLessThan(3_000);
  expect(lines.at(-1)).toMatch(/^log: … \d+ more lines \(\d+ bytes\) were printed and are not kept$/);
});

testOfContainers(
  'what a killed worker left running is removed by its next life, before the task runs again',
  async () => {
    const worker = await stack().addWorker({ name: 'mortal', env: { ...workerEnv(), BATON_WORKER_TAGS: 'mortal' } });
    const handle = await sh(
      'echo up; if [ $BATON_TASK_EPOCH = 1 ]; then sleep 1000; fi; echo again > /dev/null',
      {},
      {
        tags: ['mortal'],
        retry: { maxAttempts: 3 },
      },
    );
    for await (const line of handle.logs({ follow: true })) if (line.text === 'up') break;
    const [orphan] = await left();
    expect(orphan).toBeDefined();
    await worker.kill('SIGKILL');
    expect(await left()).toEqual([orphan]);
    await worker.restart();
    expect(await handle.result()).toBeNull();
    expect(await left()).toEqual([]);
    expect(await worker.logged(/container of an earlier life removed/)).toBeTruthy();
  },
);
