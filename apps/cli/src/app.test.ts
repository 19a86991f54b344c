import { errorDetails } from '@baton/contract/grpc';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { commandLine } from './testing.fixture.ts';

test.each([
  [['taks', 'list']],
  [['task', 'lst']],
  [['task', 'list', '--nope']],
  [['task', 'list', '-o', 'xml']],
  [['task', 'list', '--state', 'sleeping']],
  [['task', 'list', '--limit', '0']],
  [['task', 'get']],
  [['task', 'get', '1', '2']],
  [['task', 'get', 'abc']],
  [['task', 'get', '0x10']],
  [['task', 'submit']],
  [['task', 'submit', 'k', '--input', 'no-pair']],
  [['task', 'submit', 'k', '--input', '{"a":']],
  [['task', 'submit', 'k', '--input', 'a=1', '--input', 'a=2']],
  [['task', 'submit', 'k', '--priority', '5000']],
  [['task', 'submit', 'k', '--priority', '1.5']],
  [['task', 'submit', 'k', '--delay', 'soon']],
  [['task', 'submit', 'k', '--class', 'tpu']],
  [['task', 'submit', 'k', '--grpc', '127.0.0.1:50051']],
  [['task', 'submit', 'k', '--method', 'a.B/C']],
  [['run', 'start', 'name', '--input', 'a=1', '--input-json', '{}']],
  [['run', 'start', 'name', '--input-json', 'nope']],
  [['run', 'list', '--url', 'not a url']],
  [['worker', 'drain']],
  [['db', 'backup']],
])('a wrong command line ends with 64, says why, and asks nobody: %j', async (args) => {
  const { baton, fake } = await commandLine();
  const { exitCode, stdout, stderr } = await baton(args);
  expect(exitCode).toBe(64);
  expect(stdout).toBe('');
  expect(stderr).not.toBe('');
  expect(stderr).not.toContain('    at ');
  expect(fake.calls).toEqual([]);
});

test.each([
  [{ BATON_PORT: 'eighty' }, 'BATON_PORT'],
  [{ BATON_PORT: '70000' }, 'BATON_PORT'],
  [{ BATON_URL: 'localhost:7800' }, 'BATON_URL'],
  [{ BATON_LOG_LEVEL: 'loud' }, 'BATON_LOG_LEVEL'],
])('a wrong variable ends with 64 and is named: %j', async (env, name) => {
  const { baton } = await commandLine();
  const { exitCode, stderr } = await baton(['task', 'list'], { env });
  expect(exitCode).toBe(64);
  expect(stderr).toContain(name);
});

test('what is not there ends with 3', async () => {
  const { baton } = await commandLine();
  for (const args of [
    ['task', 'get', '7'],
    ['task', 'watch', '7'],
    ['task', 'cancel', '7'],
    ['run', 'get', '7'],
    ['run', 'watch', '7'],
    ['run', 'cancel', '7'],
    ['run', 'retry', '7'],
    ['run', 'start', 'unknown'],
    ['run', 'start', 'no/such/file.yaml'],
    ['workflow', 'validate', 'no/such/file.yaml'],
    ['worker', 'drain', 'nobody'],
  ]) {
    const { exitCode, stderr } = await baton(args);
    expect([args, exitCode]).toEqual([args, 3]);
    expect(stderr).toMatch(/does not exist|there is no file/);
  }
});

test('a server that cannot be reached ends with 5 and says what to start', async () => {
  const { baton, fake } = await commandLine();
  fake.failNext('listTasks', new ConnectError('connect ECONNREFUSED 127.0.0.1:7999', Code.Unavailable));
  const { exitCode, stdout, stderr } = await baton(['task', 'list'], { env: { BATON_URL: 'http://127.0.0.1:7999' } });
  expect(exitCode).toBe(5);
  expect(stdout).toBe('');
  expect(stderr).toContain('cannot reach Baton at http://127.0.0.1:7999 (from BATON_URL): connect ECONNREFUSED');
  expect(stderr).toContain('`baton up`');
});

test('a refusal ends with 1, with its reason and everything that is wrong', async () => {
  const { baton } = await commandLine();
  const { exitCode, stderr } = await baton(['task', 'submit', '']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('(INVALID_REQUEST)');
  expect(stderr).toContain('task.kind: value length must be at least 1 bytes');
});

test('a refused precondition is said once; a violation that adds something is said too', async () => {
  const { baton, fake } = await commandLine();
  const message = 'run 1 is succeeded; only failed and cancelled runs can be retried';
  const refusal = (...violations: { subject: string; description: string }[]) => {
    const desc = errorDetails.PreconditionFailureSchema;
    const error = new ConnectError(message, Code.FailedPrecondition);
    error.details = [{ desc, value: create(desc, { violations }) }];
    return error;
  };
  fake.failNext('retryRun', refusal({ subject: '', description: message }));
  expect((await baton(['run', 'retry', '1'])).stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(message)]);
  fake.failNext('cancelRun', refusal({ subject: '', description: 'more' }, { subject: 'run', description: message }));
  const { stderr } = await baton(['run', 'cancel', '1']);
  expect(stderr.trimEnd().split('\n').slice(1)).toEqual(['  more', `  run: ${message}`]);
});

test('--version and -v say what `baton version` says', async () => {
  const { baton } = await commandLine();
  const said = await baton(['version']);
  expect(said.stdout).toMatch(/^baton [0-9]+\.[0-9]+\.[0-9]+ \(Node /);
  for (const flag of ['--version', '-v']) expect(await baton([flag])).toEqual({ ...said, exitCode: 0, stderr: '' });
});

test('every command has help with an example, and help asks nobody', async () => {
  const { baton, fake } = await commandLine();
  const commands = [
    'workflow validate',
    'workflow apply',
    'workflow list',
    'run start',
    'run list',
    'run get',
    'run watch',
    'run cancel',
    'run retry',
    'task submit',
    'task get',
    'task list',
    'task watch',
    'task cancel',
    'task logs',
    'worker start',
    'worker list',
    'worker drain',
    'master',
    'db backup',
    'db restore',
    'config show',
    'version',
  ];
  for (const command of commands) {
    const { exitCode, stdout } = await baton([...command.split(' '), '--help']);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('EXAMPLES');
    expect(stdout).toContain(`baton ${command}`);
  }
  expect((await baton([])).stdout).toContain('workflow');
  expect(fake.calls).toEqual([]);
});

test('a command that changes something, or fails, leaves a structured line in LOG_DIR; a read leaves none', async () => {
  const { baton, log } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  await baton(['task', 'list']);
  await baton(['task', 'get', '99']);
  expect(await log()).toMatchObject([
    { level: 'info', msg: 'command ended', command: 'task submit', exit_code: 0, task_id: '1', kind: 'greet' },
    { level: 'error', msg: 'command failed', command: 'task get', exit_code: 3 },
  ]);
});

test('a log that cannot be written fails no command', async () => {
  const { baton } = await commandLine();
  const { exitCode, stdout, stderr } = await baton(['task', 'submit', 'greet'], { env: { LOG_DIR: '/dev/null/logs' } });
  expect(exitCode).toBe(0);
  expect(stdout).toBe('1\n');
  expect(stderr).toContain('the log could not be written');
});

test('colours only on a terminal, and not with NO_COLOR', async () => {
  const { baton } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  const introducer = '\u001b[';
  expect((await baton(['task', 'list'], { columns: 100 })).stdout).toContain(introducer);
  expect((await baton(['task', 'list'], { columns: 100, env: { NO_COLOR: '1' } })).stdout).not.toContain(introducer);
  expect((await baton(['task', 'list'], { columns: 100, env: { TERM: 'dumb' } })).stdout).not.toContain(introducer);
  expect((await baton(['task', 'list'])).stdout).not.toContain(introducer);
  expect((await baton(['--help'], { columns: 100, env: { NO_COLOR: '1' } })).stdout).not.toContain(introducer);
});

test('what was typed is cleaned before it is shown again', async () => {
  const { baton } = await commandLine();
  for (const args of [['\u001b[31mtask'], ['task', 'get', '\u001b]0;title\u0007'], ['task', 'list', '--\u009b31m']]) {
    const { exitCode, stderr } = await baton(args);
    expect(exitCode).toBe(64);
    expect(stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  }
});
