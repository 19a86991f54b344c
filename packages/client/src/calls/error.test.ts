import { errorDetails } from '@baton/contract/grpc';
import { ViolationsSchema } from '@bufbuild/protovalidate/gen/buf/validate/validate_pb.js';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { BatonError, toBatonError } from './error.ts';

test('the details of an error are read: reason, violations, pause, metadata', () => {
  const error = toBatonError(
    new ConnectError('no', Code.FailedPrecondition, undefined, [
      {
        desc: errorDetails.ErrorInfoSchema,
        value: { reason: 'LEASE_LOST', domain: 'baton', metadata: { epoch: '3' } },
      },
      {
        desc: errorDetails.BadRequestSchema,
        value: { fieldViolations: [{ field: 'task.kind', description: 'empty' }] },
      },
      {
        desc: errorDetails.PreconditionFailureSchema,
        value: { violations: [{ type: 'STATE', subject: 'task', description: 'has ended' }] },
      },
      { desc: errorDetails.RetryInfoSchema, value: { retryDelay: { seconds: 1n, nanos: 500_000_000 } } },
    ]),
  );
  expect(error).toBeInstanceOf(BatonError);
  expect(error).toMatchObject({
    code: 'failed_precondition',
    reason: 'LEASE_LOST',
    message: 'no',
    retryAfterMs: 1_500,
    metadata: { epoch: '3' },
    violations: [
      { field: 'task.kind', description: 'empty' },
      { field: 'task', description: 'has ended' },
    ],
  });
});

test('violations of protovalidate are read, with their paths', () => {
  const elements = [
    { fieldName: 'tasks', subscript: { case: 'index' as const, value: 3n } },
    { fieldName: 'labels', subscript: { case: 'stringKey' as const, value: 'a b' } },
  ];
  const error = toBatonError(
    new ConnectError('bad', Code.InvalidArgument, undefined, [
      { desc: ViolationsSchema, value: { violations: [{ field: { elements }, message: 'too long' }] } },
    ]),
  );
  expect(error.violations).toEqual([{ field: 'tasks[3].labels["a b"]', description: 'too long' }]);
});

test.each([
  ['a string', 'boom', 'unavailable'],
  ['an Error', new Error('boom'), 'unknown'],
  ['nothing', undefined, 'unknown'],
  ['null', null, 'unknown'],
  ['an AbortError', new DOMException('stop', 'AbortError'), 'canceled'],
  ['a network error of fetch', new TypeError('terminated'), 'unavailable'],
])('%s becomes a BatonError', (_, thrown, code) => {
  const error = toBatonError(thrown);
  expect(error).toBeInstanceOf(BatonError);
  expect(error.code).toBe(code);
});

test('a BatonError stays itself', () => {
  const error = new BatonError({ code: 'not_found', message: 'gone' });
  expect(toBatonError(error)).toBe(error);
});

test('every code of Connect has its word', () => {
  for (const code of Object.values(Code).filter((value) => typeof value === 'number')) {
    const error = toBatonError(new ConnectError('x', code));
    expect(`[${error.code}] x`).toBe(new ConnectError('x', code).message);
  }
});
