// `buf curl` knows nothing but an address: everything comes by server reflection.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';
import { useStack } from '@baton/testkit/vitest';
import { describe, expect, test } from 'vitest';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });
const buf = createRequire(import.meta.url).resolve('@bufbuild/buf/bin/buf');

async function bufCurl(args: readonly string[], data?: unknown) {
  const input = data === undefined ? [] : ['--data', JSON.stringify(data)];
  const child = spawn(process.execPath, [buf, 'curl', ...args, ...input], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number>((resolve) => child.once('close', resolve)),
  ]);
  return { out, err, code };
}

const urlOf = (which: 'master' | 'worker') => (which === 'master' ? stack().url : stack().worker('w1').url);
// gRPC needs HTTP/2 with prior knowledge on a plaintext port; the others go over HTTP/1.1 too.
const protocols = {
  grpc: ['--protocol', 'grpc', '--http2-prior-knowledge'],
  grpcweb: ['--protocol', 'grpcweb'],
  connect: ['--protocol', 'connect'],
} as const;
// Reflection is a bidirectional stream, and so HTTP/2 in any protocol.
const reflection = (version: string) => ['--reflect-protocol', version, '--http2-prior-knowledge'];

const services = {
  master: ['EventService', 'MasterService', 'SystemService', 'TaskService', 'WorkflowService'],
  worker: ['WorkerService'],
} as const;

describe.for(['master', 'worker'] as const)('of a %s', (which) => {
  test.for(['grpc-v1', 'grpc-v1alpha'])('%s lists the services', async (version) => {
    const { out, err, code } = await bufCurl([
      ...protocols.grpc,
      ...reflection(version),
      '--list-services',
      urlOf(which),
    ]);
    expect(code, err).toBe(0);
    const listed = out.trim().split('\n');
    expect(listed).toEqual(expect.arrayContaining(services[which].map((name) => `baton.v1.${name}`)));
    expect(listed).toContain('grpc.health.v1.Health');
  });

  test.for(Object.keys(protocols) as (keyof typeof protocols)[])('a read over %s', async (protocol) => {
    const method = which === 'master' ? 'SystemService/GetInfo' : 'WorkerService/GetStatus';
    const args = [...protocols[protocol], ...reflection('grpc-v1'), `${urlOf(which)}/baton.v1.${method}`];
    const { out, err, code } = await bufCurl(args, {});
    expect(code, err).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  });
});

test('submits a task of typed JSON, and gets its result', async () => {
  const args = (method: string, version: string) => [
    ...protocols.grpc,
    ...reflection(version),
    `${stack().url}/baton.v1.TaskService/${method}`,
  ];
  const submitted = await bufCurl(args('SubmitTask', 'grpc-v1'), { task: { kind: 'sum', input: { a: 40, b: 2 } } });
  expect(submitted.code, submitted.err).toBe(0);
  const { taskId } = JSON.parse(submitted.out);
  const got = await bufCurl(args('GetTask', 'grpc-v1alpha'), { taskId, wait: '20s' });
  expect(JSON.parse(got.out).task).toMatchObject({ state: 'TASK_STATE_SUCCEEDED', output: 42 });
});

test('executes a task on a worker', async () => {
  const url = `${stack().worker('w1').url}/baton.v1.WorkerService/ExecuteTask`;
  const { out, err, code } = await bufCurl([...protocols.grpc, ...reflection('grpc-v1'), url], {
    task: { kind: 'echo', input: ['x', null, 1.5] },
  });
  expect(code, err).toBe(0);
  expect(JSON.parse(out).task).toMatchObject({ worker: 'w1', output: ['x', null, 1.5] });
});

test('an error is shown with its details', async () => {
  const url = `${stack().url}/baton.v1.TaskService/GetTask`;
  const { err, code } = await bufCurl([...protocols.grpc, ...reflection('grpc-v1'), url], { taskId: '1' });
  expect(code).not.toBe(0);
  const { code: word, message, details } = JSON.parse(err);
  expect({ word, message }).toEqual({ word: 'not_found', message: 'task 1 does not exist in this namespace' });
  expect(details[0].type).toBe('google.rpc.ErrorInfo');
  expect(Buffer.from(details[0].value, 'base64').toString()).toContain('TASK_NOT_FOUND');
});
