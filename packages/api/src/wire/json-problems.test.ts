import { SubmitTaskRequestSchema, SubmitTasksRequestSchema } from '@baton/contract';
import { expect, test } from 'vitest';
import { jsonProblems } from './json-problems.ts';

const problems = (json: unknown) =>
  Object.fromEntries(
    (jsonProblems(SubmitTaskRequestSchema, JSON.stringify(json))?.problems ?? []).map((p) => [p.field, p.description]),
  );

test('what can be decoded has no problem', () => {
  expect(jsonProblems(SubmitTaskRequestSchema, '{"task":{"kind":"a","max_attempts":null}}')).not.toBeNull();
  expect(jsonProblems(SubmitTaskRequestSchema, '{"task":{"kind":"a","retry":{"max_attempts":3}}}')).toBeNull();
});

test('everything that is wrong at once, each with its place and what it should be', () => {
  expect(
    problems({
      bogus: 1,
      task: {
        kind: 7,
        inptu: 1,
        priority: 'zzz',
        tags: ['fine', 1, null],
        labels: { good: 'x', bad: 2 },
        taskClass: 'TASK_CLASS_MOON',
        startToCloseTimeout: '3',
        input: 1,
        inputJson: '1',
        retry: { maxAttempts: -1, factor: 'much' },
      },
    }),
  ).toEqual({
    bogus: 'SubmitTaskRequest has no field "bogus"',
    'task.kind': 'must be a text, not 7',
    'task.inptu': 'TaskSpec has no field "inptu"',
    'task.priority': 'must be a whole number from -2147483648 to 2147483647, not "zzz"',
    'task.tags[1]': 'must be a text, not 1',
    'task.tags[2]': 'must be a text, not null',
    'task.labels["bad"]': 'must be a text, not 2',
    'task.task_class': expect.stringMatching(/^must be one of .*TASK_CLASS_GPU.*, not "TASK_CLASS_MOON"$/),
    'task.start_to_close_timeout': 'must be a duration in seconds such as "1.5s", not "3"',
    'task.payload': 'input and inputJson exclude each other',
    'task.retry.max_attempts': 'must be a whole number from 0 to 4294967295, not -1',
    'task.retry.factor': 'must be a number, not "much"',
  });
});

test('what is left is the message without them', () => {
  const found = jsonProblems(
    SubmitTaskRequestSchema,
    '{"task":{"kind":"a","priority":"z","retry":{"maxAttempts":-1,"factor":2}}}',
  );
  expect(found?.rest).toEqual({ task: { kind: 'a', retry: { factor: 2 } } });
});

test('values of the wrong shape', () => {
  expect(problems({ task: 3 })).toEqual({ task: 'must be an object, not 3' });
  expect(problems([])).toEqual({ '': 'must be an object, not a list' });
  expect(problems({ task: { tags: 'a', labels: [] } })).toEqual({
    'task.tags': 'must be a list, not "a"',
    'task.labels': 'must be an object, not a list',
  });
  expect(problems({ task: { kind: ['x'.repeat(100)] } })).toEqual({ 'task.kind': 'must be a text, not a list' });
  const deep = JSON.parse(`${'['.repeat(200)}${']'.repeat(200)}`);
  expect(problems({ task: { kind: 'a', input: deep } })).toEqual({
    'task.input': expect.stringMatching(/depth of 100/),
  });
});

test('text that is no JSON, with what stands there; a key that is given twice', () => {
  expect(jsonProblems(SubmitTaskRequestSchema, '{"task": {"kind": }}')?.problems).toEqual([
    { field: '', description: expect.stringMatching(/^not JSON: .*'\}', "\{"task": \{"kind": \}\}"/) },
  ]);
  expect(jsonProblems(SubmitTaskRequestSchema, '{"task":{"kind":"a","kind":"b"}}')?.problems).toEqual([
    { field: '', description: expect.stringContaining('kind') },
  ]);
});

test('a million wrong values cost no more than a look, and are not all told', () => {
  const started = performance.now();
  const tags = Array.from({ length: 500_000 }, (_, i) => (i % 1_000 === 999 ? i : 'a'));
  const tasks = Array.from({ length: 50_000 }, (_, i) => ({ kind: i % 2 ? 'a' : i }));
  expect(jsonProblems(SubmitTaskRequestSchema, JSON.stringify({ task: { tags } }))?.problems).toHaveLength(50);
  expect(jsonProblems(SubmitTasksRequestSchema, JSON.stringify({ tasks }))?.problems).toHaveLength(50);
  expect(performance.now() - started).toBeLessThan(3_000);
});
