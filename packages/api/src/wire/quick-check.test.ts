import * as contract from '@baton/contract';
import { create, type DescMessage, type Message, ScalarType } from '@bufbuild/protobuf';
import { reflect } from '@bufbuild/protobuf/reflect';
import { DurationSchema, ValueSchema } from '@bufbuild/protobuf/wkt';
import { createValidator } from '@bufbuild/protovalidate';
import { expect, it } from 'vitest';
import { quickChecks } from './quick-check.ts';

const validator = createValidator();
const checkOf = quickChecks((pattern, text) => new RegExp(pattern, 'u').test(text));

/** The same numbers for the same seed, so that a failure can be seen again. */
function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const TEXTS = [
  '',
  'a',
  'noop',
  '😀',
  'A-1_b',
  'x'.repeat(200),
  'x'.repeat(201),
  '😀'.repeat(150),
  'a\u0001',
  '12345',
  'f'.repeat(64),
  '/x y',
];
const DURATIONS = [
  ...[0n, 1n, 59n, 60n, 61n, 3_600n, 2_592_000n, 2_592_001n].flatMap((seconds) =>
    [0, 1, 999_999_999].map((nanos) => ({ seconds, nanos })),
  ),
  ...[-1, 1_000_000_000].map((nanos) => ({ seconds: 1n, nanos })),
  ...[0, -1].map((nanos) => ({ seconds: -1n, nanos })),
];
const NUMBERS = [0, 1, -1, 5, 100, 1_000, 1_001, 65_536, 2_147_483_647];

/** What fits the types, and the rules now and then. */
function anyMessage(schema: DescMessage, random: () => number, depth = 0): Message {
  const message = create(schema);
  const access = reflect(schema, message);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  const scalar = (type: ScalarType): unknown => {
    switch (type) {
      case ScalarType.STRING:
        return pick(TEXTS);
      case ScalarType.BOOL:
        return random() < 0.5;
      case ScalarType.BYTES:
        return new Uint8Array(pick([0, 1, 32, 300]));
      case ScalarType.DOUBLE:
      case ScalarType.FLOAT:
        return pick([0, 0.5, 1, -3, Number.NaN, Number.POSITIVE_INFINITY]);
      case ScalarType.INT64:
      case ScalarType.SINT64:
      case ScalarType.SFIXED64:
        return BigInt(pick(NUMBERS));
      case ScalarType.UINT64:
      case ScalarType.FIXED64:
        return BigInt(Math.abs(pick(NUMBERS)));
      case ScalarType.UINT32:
      case ScalarType.FIXED32:
        return Math.abs(pick(NUMBERS));
      default:
        return pick(NUMBERS);
    }
  };
  const value = (kind: string, type: { scalar?: ScalarType; message?: DescMessage }): unknown => {
    if (kind === 'scalar') return scalar(type.scalar!);
    if (kind === 'enum') return pick([0, 1, 2, 77]);
    const nested = type.message!;
    if (nested === DurationSchema) return reflect(nested, create(DurationSchema, pick(DURATIONS)));
    return reflect(nested, nested === ValueSchema ? create(ValueSchema) : anyMessage(nested, random, depth + 1));
  };
  for (const field of schema.fields) {
    if (random() < 0.6 || depth > 3) continue;
    if (field.fieldKind === 'list') {
      const list = access.get(field);
      for (let n = pick([0, 1, 2, 40]); n > 0; n--) list.add(value(field.listKind, field) as never);
    } else if (field.fieldKind === 'map') {
      if (field.mapKey === ScalarType.STRING && random() < 0.5)
        access.get(field).set(pick(TEXTS), value(field.mapKind, field) as never);
    } else access.set(field, value(field.fieldKind, field) as never);
  }
  return message;
}

const schemas = Object.values(contract).filter(
  (each): each is typeof contract.TaskSpecSchema =>
    typeof each === 'object' && 'kind' in each && each.kind === 'message',
);

it('is never sure of a message in which something is wrong', () => {
  expect(schemas.length).toBeGreaterThan(100);
  const sure = new Set<string>();
  const wrong = new Set<string>();
  for (const [n, schema] of schemas.entries()) {
    const random = numbersFrom(n + 1);
    const check = checkOf(schema);
    for (let tries = 0; tries < 60; tries++) {
      const message = anyMessage(schema, random);
      const { kind } = validator.validate(schema, message as never);
      if (kind !== 'valid') wrong.add(schema.typeName);
      if (!check(message)) continue;
      expect([schema.typeName, message, kind]).toEqual([schema.typeName, message, 'valid']);
      sure.add(schema.typeName);
    }
  }
  expect(sure.size).toBeGreaterThan(80);
  expect(wrong.size).toBeGreaterThan(40);
});

it('is sure of what clients send all day', () => {
  const { SubmitTaskRequestSchema, SubmitTasksRequestSchema, WaitRunsRequestSchema, WaitTasksRequestSchema } = contract;
  const wait = { seconds: 30n, nanos: 0 };
  const ids = ['1', '7234567890123'];
  expect(checkOf(WaitTasksRequestSchema)(create(WaitTasksRequestSchema, { taskIds: ids, wait }))).toBe(true);
  expect(checkOf(WaitRunsRequestSchema)(create(WaitRunsRequestSchema, { runIds: ids, wait }))).toBe(true);
  const task = {
    kind: 'noop',
    queue: 'default',
    tags: ['arm'],
    payload: { case: 'inputJson' as const, value: '{}' },
    priority: 5,
  };
  expect(checkOf(SubmitTaskRequestSchema)(create(SubmitTaskRequestSchema, { task }))).toBe(true);
  expect(
    checkOf(SubmitTasksRequestSchema)(
      create(SubmitTasksRequestSchema, { tasks: [task, { ...task, retry: { maxAttempts: 3 } }] }),
    ),
  ).toBe(true);
  expect(checkOf(SubmitTaskRequestSchema)(create(SubmitTaskRequestSchema, { task: { ...task, kind: '' } }))).toBe(
    false,
  );
});
