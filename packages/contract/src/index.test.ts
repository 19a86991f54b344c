import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import * as grpc from './grpc.ts';
import * as contract from './index.ts';

const generated = join(import.meta.dirname, 'gen');
const files = readdirSync(generated, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('_pb.js'));

test.each(files)('everything that %s generates can be imported from the package', async (file) => {
  const names = Object.keys(await import(join(generated, file)));
  const exported = /^(grpc|google)/.test(file) ? Object.values(grpc).flatMap((space) => Object.keys(space)) : contract;
  const has = (name: string) => (Array.isArray(exported) ? exported.includes(name) : name in exported);
  expect(names.length).toBeGreaterThan(0);
  expect(names.filter((name) => !has(name))).toEqual([]);
});

test('field rules use the extension that the validator reads, not a copy of it', () => {
  const task = readFileSync(join(generated, 'baton', 'v1', 'task_pb.js'), 'utf8');
  expect(task).toContain('"@bufbuild/protovalidate/gen/buf/validate/validate_pb.js"');
});

test('ContainerExecutor is on the wire what existing services expect: no package, fields 1 and 2', () => {
  const { ContainerExecutor } = contract;
  expect(ContainerExecutor.typeName).toBe('ContainerExecutor');
  const { input, output } = ContainerExecutor.method.execute;
  expect(input.fields.map((field) => [field.number, field.name])).toEqual([
    [1, 'input_file'],
    [2, 'output_file'],
  ]);
  expect(output.fields.map((field) => [field.number, field.name])).toEqual([
    [1, 'success'],
    [2, 'message'],
  ]);
});
