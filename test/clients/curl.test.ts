// A person with a terminal: everything by curl alone.
import { useStack } from '@baton/testkit/vitest';
import { describe, expect, test } from 'vitest';
import { curl, detail, post } from './curl.ts';

const stack = useStack({ tasksModule: new URL('./tasks.ts', import.meta.url) });
const call = (method: string, request: unknown) => post(stack().url, method, request);

async function submit(task: unknown): Promise<string> {
  const answer = await call('TaskService/SubmitTask', { task });
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 200 });
  return answer.body.taskId;
}

async function ended(taskId: string, format?: string) {
  const { body } = await call('TaskService/GetTask', { taskId, wait: '20s', format });
  return body.task;
}

describe('a task typed by hand', () => {
  test.for([
    ['an object', { a: [1, 2.5, -0.1], b: { c: 'ü ✓ \u0001' }, d: null }],
    ['a number', 42],
    ['null', null],
    ['false', false],
    ['an empty list', []],
    ['a text', 'x'],
  ])('input as a JSON value: %s comes back', async ([, value]) => {
    const task = await ended(await submit({ kind: 'echo', input: value }));
    expect(task.state).toBe('TASK_STATE_SUCCEEDED');
    expect(task.input).toEqual(value);
    expect(task.output).toEqual(value);
  });

  test('input as JSON text is kept byte for byte, digits beyond 2^53 included', async () => {
    const text = '{ "n": 12345678901234567890,  "x": 1.50 }';
    const id = await submit({ kind: 'sum', inputJson: text });
    expect((await ended(id, 'PAYLOAD_FORMAT_TEXT')).inputJson).toBe(text);
    expect((await ended(id, 'PAYLOAD_FORMAT_BYTES')).inputBytes).toBe(Buffer.from(text).toString('base64'));
    const bare = await ended(id, 'PAYLOAD_FORMAT_NONE');
    expect(Object.keys(bare).filter((name) => /^(input|output)(Json|Bytes)?$/.test(name))).toEqual([]);
  });

  test('input as bytes, and a result as bytes', async () => {
    const task = await ended(await submit({ kind: 'reversed', inputBytes: 'AP8B' }));
    expect(task).toMatchObject({ state: 'TASK_STATE_SUCCEEDED', inputBytes: 'AP8B', outputBytes: 'Af8A' });
  });

  test('get answers at once, or waits for the end', async () => {
    const id = await submit({ kind: 'echo', input: 1, runAt: new Date(Date.now() + 600).toISOString() });
    const now = await call('TaskService/GetTask', { taskId: id });
    expect(now.body.task.state).toBe('TASK_STATE_SCHEDULED');
    const later = await call('TaskService/GetTask', { taskId: id, wait: '20s' });
    expect(later.body.task.state).toBe('TASK_STATE_SUCCEEDED');
    expect(later.body.attempts).toMatchObject([
      { number: 1, epoch: 1, state: 'ATTEMPT_STATE_SUCCEEDED', worker: 'w1' },
    ]);
  });

  test('a read by GET, as Connect has it for calls without side effects', async () => {
    const id = await submit({ kind: 'echo', input: 'cached' });
    const message = encodeURIComponent(JSON.stringify({ taskId: id, wait: '20s' }));
    const answer = await curl([
      `${stack().url}/baton.v1.TaskService/GetTask?connect=v1&encoding=json&message=${message}`,
    ]);
    expect(answer).toMatchObject({ status: 200, body: { task: { id, output: 'cached' } } });
    const write = await curl([`${stack().url}/baton.v1.TaskService/CancelTask?encoding=json&message=${message}`]);
    expect(write.status).toBe(405);
  });
});

test('list pages by token with filters; a token of another list is refused', async () => {
  const namespace = 'pages';
  for (let i = 0; i < 7; i++) {
    const task = { kind: i % 2 ? 'odd' : 'even', queue: 'nobody', labels: { i: String(i) }, tags: ['nobody'] };
    expect((await call('TaskService/SubmitTask', { namespace, task })).status).toBe(200);
  }
  const seen: string[] = [];
  let pageToken: string | undefined;
  let pages = 0;
  do {
    const { body } = await call('TaskService/ListTasks', { namespace, kind: 'even', pageSize: 2, pageToken });
    seen.push(...body.tasks.map((task: { labels: { i: string } }) => task.labels.i));
    expect(body.tasks[0]).not.toHaveProperty('input');
    pageToken = body.nextPageToken;
    pages++;
  } while (pageToken);
  expect(seen).toEqual(['6', '4', '2', '0']);
  expect(pages).toBe(2);

  const { body } = await call('TaskService/ListTasks', { namespace, kind: 'even', pageSize: 2 });
  for (const wrong of [
    { kind: 'odd', pageToken: body.nextPageToken },
    { kind: 'even', pageToken: 'bm90aGluZw' },
  ]) {
    const answer = await call('TaskService/ListTasks', { namespace, ...wrong });
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_argument' } });
    expect(detail(answer, 'ErrorInfo')).toMatchObject({ reason: 'INVALID_PAGE_TOKEN', domain: 'baton' });
  }
  const byState = async (...states: string[]) =>
    (await call('TaskService/ListTasks', { namespace, states })).body.tasks?.length ?? 0;
  expect(await byState('TASK_STATE_READY')).toBe(7);
  expect(await byState('TASK_STATE_SUCCEEDED', 'TASK_STATE_FAILED')).toBe(0);
});

describe('what is refused', () => {
  const refused = async (request: unknown, method = 'TaskService/SubmitTask') => {
    const answer = await call(method, request);
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 400, body: { code: 'invalid_argument' } });
    expect(detail(answer, 'ErrorInfo')).toMatchObject({
      reason: expect.stringMatching(/^(INVALID|MALFORMED)_REQUEST$/),
      domain: 'baton',
    });
    return answer;
  };

  test('an unknown field, by its name', async () => {
    expect((await refused({ task: { kind: 'echo', inptu: 1 } })).body.message).toContain('"inptu"');
    expect((await refused({ tsak: {} })).body.message).toContain('"tsak"');
  });

  test('everything that breaks a rule, at once, each with its path', async () => {
    const answer = await refused({
      namespace: 'Not A Name',
      task: {
        kind: '',
        priority: 5000,
        tags: ['fine', ''],
        startToCloseTimeout: '-3s',
        retry: { maxAttempts: 5000, factor: 0.5, jitter: 2 },
      },
    });
    expect(detail(answer, 'ErrorInfo')).toMatchObject({ reason: 'INVALID_REQUEST', domain: 'baton' });
    const fields = detail(answer, 'BadRequest').fieldViolations.map(({ field }: { field: string }) => field);
    expect(new Set(fields)).toEqual(
      new Set([
        'namespace',
        'task.kind',
        'task.priority',
        'task.tags[1]',
        'task.start_to_close_timeout',
        'task.retry.max_attempts',
        'task.retry.factor',
        'task.retry.jitter',
      ]),
    );
  });

  test('what cannot be decoded, too, beside what breaks a rule', async () => {
    const answer = await refused({
      namespce: 'a',
      task: {
        kind: '',
        priority: 'zzz',
        tags: [1],
        startToCloseTimeout: '-3s',
        retry: { maxAttempts: -1, factor: 0.5 },
      },
    });
    expect(detail(answer, 'ErrorInfo').reason).toBe('INVALID_REQUEST');
    const violations = detail(answer, 'BadRequest').fieldViolations as { field: string; description: string }[];
    expect(new Set(violations.map(({ field }) => field))).toEqual(
      new Set([
        'namespce',
        'task.priority',
        'task.tags[0]',
        'task.retry.max_attempts',
        'task.kind',
        'task.start_to_close_timeout',
        'task.retry.factor',
      ]),
    );
    expect(violations.find(({ field }) => field === 'task.retry.max_attempts')?.description).toContain('not -1');
  });

  test.for([
    ['truncated JSON', '{"task": {"kind": "echo", "input": [1, 2', 'JSON'],
    ['a list nested 10 000 deep', `{"task":{"kind":"echo","input":${'['.repeat(10_000)}${']'.repeat(10_000)}}}`, ''],
    [
      'an object nested 10 000 deep',
      `{"task":{"kind":"echo","input":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}}}`,
      '',
    ],
    ['NUL in a kind', '{"task":{"kind":"a\\u0000b"}}', 'kind'],
    ['NUL in a label', '{"task":{"kind":"a","labels":{"l":"\\u0000"}}}', 'labels'],
    ['NUL in a tag', '{"task":{"kind":"a","tags":["\\u0000"]}}', 'tags'],
    ['a lone surrogate in a kind', '{"task":{"kind":"a\\ud800"}}', 'kind'],
    ['a lone surrogate in a queue', '{"task":{"kind":"a","queue":"\\udc00"}}', 'queue'],
    ['a number that is none', '{"task":{"kind":"echo","input":1e400}}', 'input'],
    ['two inputs', '{"task":{"kind":"echo","input":1,"inputJson":"1"}}', 'payload'],
    ['input_json that is not JSON', '{"task":{"kind":"echo","inputJson":"{"}}', 'input_json'],
    ['a class that does not exist', '{"task":{"kind":"echo","taskClass":99}}', 'task_class'],
    ['no task', '{}', 'task'],
    ['bytes that are no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), ''],
    ['an empty body', '', ''],
  ] as const)('%s', async ([, body, word]) => {
    expect((await refused(body)).body.message).toContain(word);
    // The master lives on.
    expect((await curl([`${stack().url}/healthz`])).status).toBe(200);
  });

  test('a message nested 10 000 deep, in binary', async () => {
    const field = (number: number, bytes: Buffer) => {
      const size: number[] = [];
      for (let left = bytes.length; ; left = Math.floor(left / 128)) {
        if (left < 128) {
          size.push(left);
          break;
        }
        size.push((left % 128) + 128);
      }
      return Buffer.concat([Buffer.from([number * 8 + 2, ...size]), bytes]);
    };
    let value = Buffer.from([8, 0]); // google.protobuf.Value{null_value}, then lists of it
    for (let i = 0; i < 10_000; i++) value = field(6, field(1, value));
    const request = field(2, Buffer.concat([field(1, Buffer.from('echo')), field(10, value)]));
    const answer = await curl(
      ['-H', 'Content-Type: application/proto', `${stack().url}/baton.v1.TaskService/SubmitTask`],
      request,
    );
    expect(answer).toMatchObject({
      status: 400,
      body: { code: 'invalid_argument', message: expect.stringContaining('maximum recursion depth') },
    });
    expect((await curl([`${stack().url}/healthz`])).status).toBe(200);
  });

  test('an input beyond 2 MiB, and a message beyond what is read', async () => {
    const answer = await call('TaskService/SubmitTask', { task: { kind: 'echo', input: 'x'.repeat(2 ** 21) } });
    expect(answer).toMatchObject({ status: 429, body: { code: 'resource_exhausted' } });
    expect(detail(answer, 'ErrorInfo').reason).toBe('INPUT_TOO_LARGE');
    const huge = await call('TaskService/SubmitTask', { task: { kind: 'echo', input: 'x'.repeat(2 ** 23) } });
    expect([huge.body.code, detail(huge, 'ErrorInfo').reason]).toEqual(['resource_exhausted', 'MESSAGE_TOO_LARGE']);
    const most = await submit({ kind: 'gpu-only', taskClass: 'TASK_CLASS_GPU', input: 'x'.repeat(2 ** 21 - 2) });
    expect((await call('TaskService/CancelTask', { taskId: most })).body.state).toBe('TASK_STATE_CANCELLED');
  });

  test('a task of another namespace, one that never was, an id beyond all ids', async () => {
    const taskId = await submit({ kind: 'echo', input: 1 });
    for (const request of [{ namespace: 'elsewhere', taskId }, { taskId: '1' }, { taskId: '9'.repeat(19) }]) {
      for (const method of ['GetTask', 'CancelTask']) {
        const answer = await call(`TaskService/${method}`, request);
        expect(answer, method).toMatchObject({ status: 404, body: { code: 'not_found' } });
        expect(detail(answer, 'ErrorInfo').reason).toBe('TASK_NOT_FOUND');
      }
    }
    for (const method of ['GetRun', 'CancelRun', 'RetryRun']) {
      for (const runId of ['1', '9'.repeat(19)]) {
        const answer = await call(`WorkflowService/${method}`, { runId });
        expect(answer, `${method} ${runId}`).toMatchObject({ status: 404, body: { code: 'not_found' } });
      }
    }
    expect((await refused({ taskId: 'x1' }, 'TaskService/GetTask')).body.message).toContain('task_id');
  });

  test('a method that does not exist, a body without its type', async () => {
    expect(await call('TaskService/DoTask', {})).toMatchObject({ status: 404, body: { code: 'unimplemented' } });
    const untyped = await curl([`${stack().url}/baton.v1.TaskService/GetTask`], '{}');
    expect(detail(untyped, 'ErrorInfo').reason).toBe('WRONG_CONTENT_TYPE');
    expect(untyped).toMatchObject({ status: 415, body: { message: expect.stringContaining('application/json') } });
  });
});

test('NUL and half of a pair in a payload are refused with their place; as bytes they are kept', async () => {
  for (const [task, field] of [
    ['"input":{"list":["\\ud83d\\ude00",{"x":"a\\u0000b"}]}', 'task.input.list[1].x'],
    ['"input":{"\\ud800":1}', 'task.input["\\ud800"]'],
    [`"inputJson":${JSON.stringify('{"x":"\\u0000"}')}`, 'task.input_json.x'],
    ['"inputJson":"\\"\\ud800\\""', 'task.input_json'],
  ]) {
    const answer = await call('TaskService/SubmitTask', `{"task":{"kind":"echo",${task}}}`);
    expect([answer.status, detail(answer, 'ErrorInfo')?.reason]).toEqual([400, 'INVALID_REQUEST']);
    const [violation] = detail(answer, 'BadRequest').fieldViolations;
    // A name that is no text itself is shown escaped.
    expect(violation.field.replaceAll('\ufffd', '\\ud800')).toBe(field);
    expect(violation.description).toContain('a lone surrogate');
  }
  const run = '{"definitionJson":"{}","inputJson":"\\"\\\\u0000\\""}';
  expect(detail(await call('WorkflowService/StartRun', run), 'BadRequest').fieldViolations[0].field).toBe('input_json');
  const bytes = Buffer.from('"\\u0000 \\ud800"').toString('base64');
  const task = await ended(await submit({ kind: 'echo', inputBytes: bytes }), 'PAYLOAD_FORMAT_BYTES');
  expect(task).toMatchObject({ state: 'TASK_STATE_SUCCEEDED', inputBytes: bytes });
});

test('a result with such a text fails its task at once, saying where', async () => {
  const { task, attempts } = await call('TaskService/GetTask', {
    taskId: await submit({ kind: 'unstorable', input: 1 }),
    wait: '20s',
  }).then(({ body }) => body);
  expect(task.state).toBe('TASK_STATE_FAILED');
  expect(attempts).toHaveLength(1);
  expect(task.failure).toMatchObject({
    type: 'FAILURE_TYPE_EVALUATION_ERROR',
    nonRetryable: true,
    message: expect.stringContaining('RESULT_NOT_STORABLE: result.rows[1] '),
  });
});

test('colours in an error are no part of the failure that is kept', async () => {
  const task = await ended(
    await submit({ kind: 'fails', input: { message: '\u001b[31mred\u001b[0m alert' }, retry: { maxAttempts: 1 } }),
  );
  expect(task.failure.message).toBe('red alert');
});

test('JSON text nested 10 000 deep goes through a worker and comes back as text', async () => {
  const text = `${'['.repeat(10_000)}${']'.repeat(10_000)}`;
  const task = await ended(await submit({ kind: 'echo', inputJson: text }));
  expect(task.inputJson).toBe(text);
  expect(task.state).toMatch(/SUCCEEDED|FAILED/);
  expect((await ended(await submit({ kind: 'sum', input: { a: 1, b: 2 } }))).output).toBe(3);
});
