import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkBreaking } from './breaking.ts';
import { GENERATED, generate, runTool } from './generate.ts';
import { repositoryRoot } from './workspace.ts';

// Each starts buf and its plugin several times.
vi.setConfig({ testTimeout: 60_000 });

let root: string;
let printed: string[];
const print = (line: string): number => printed.push(line);

beforeEach(() => {
  printed = [];
  root = mkdtempSync(join(tmpdir(), 'baton-contract-'));
  for (const path of ['proto', 'buf.yaml', 'buf.gen.yaml']) {
    cpSync(join(repositoryRoot, path), join(root, path), { recursive: true });
  }
  rmSync(join(root, 'proto', 'baseline'), { recursive: true, force: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Changes a proto of the copy; fails when there is nothing to change, so that no test passes for that reason. */
function edit(file: string, from: string | RegExp, to: string): void {
  const path = join(root, 'proto', file);
  const before = readFileSync(path, 'utf8');
  const after = before.replace(from, to);
  expect(after, `${String(from)} in ${file}`).not.toBe(before);
  writeFileSync(path, after);
}

describe('breaking', () => {
  test('without a baseline it fails: nothing would be compared', () => {
    expect(checkBreaking(root, false, print)).toBe(1);
    expect(printed.join()).toMatch(/is missing/);
  });

  test('the contract does not break itself', () => {
    expect(checkBreaking(root, true, print)).toBe(0);
    expect(checkBreaking(root, false, print)).toBe(0);
    expect(printed.at(-1)).toMatch(/breaks nothing/);
  });

  test('a renamed field fails, with its file', () => {
    checkBreaking(root, true, print);
    edit('baton/v1/task.proto', /\bidempotency_key = /, 'idempotence_key = ');
    expect(checkBreaking(root, false, print)).toBe(1);
    expect(printed.join('\n')).toMatch(/baton\/v1\/task\.proto:\d+.*idempotency_key/);
  });

  test('a removed method fails', () => {
    checkBreaking(root, true, print);
    edit('baton/v1/task.proto', /rpc CancelTask\(/, 'rpc StopTask(');
    expect(checkBreaking(root, false, print)).toBe(1);
    expect(printed.join('\n')).toMatch(/CancelTask/);
  });

  test('an added field passes', () => {
    checkBreaking(root, true, print);
    edit('baton/v1/task.proto', /message CancelTaskRequest \{/, '$&\n  // Added.\n  string added_later = 1999;\n');
    expect(checkBreaking(root, false, print)).toBe(0);
  });
});

describe('generate', () => {
  const generated = (file: string): string => join(root, GENERATED, file);
  beforeEach(() => cpSync(join(repositoryRoot, GENERATED), join(root, GENERATED), { recursive: true }));

  test('fills an empty folder, and then nothing is stale', () => {
    rmSync(join(root, GENERATED), { recursive: true });
    expect(generate(root, false, print)).toBe(0);
    expect(generate(root, true, print)).toBe(0);
    expect(printed.at(-1)).toMatch(/none stale/);
  });

  test('--check names what is stale, with the fix, and changes nothing', () => {
    const before = readFileSync(generated('baton/v1/task_pb.js'), 'utf8');
    edit('baton/v1/task.proto', /message CancelTaskRequest \{/, '$&\n  // Added.\n  string added_later = 1999;\n');
    rmSync(generated('container_executor_pb.d.ts'));
    writeFileSync(generated('gone_pb.js'), '');
    expect(generate(root, true, print)).toBe(1);
    expect(printed.slice(0, -1).map((line) => line.replace(`${GENERATED}/`, ''))).toEqual([
      'baton/v1/task_pb.d.ts: differs',
      'baton/v1/task_pb.js: differs',
      'container_executor_pb.d.ts: missing',
      'gone_pb.js: no proto for it',
    ]);
    expect(printed.at(-1)).toMatch(/npm run generate/);
    expect(readFileSync(generated('baton/v1/task_pb.js'), 'utf8')).toBe(before);
  });

  test('removes what has no proto any more', () => {
    writeFileSync(generated('gone_pb.js'), '');
    expect(generate(root, false, print)).toBe(0);
    expect(existsSync(generated('gone_pb.js'))).toBe(false);
  });

  test('a proto that does not compile changes nothing, and says where', () => {
    edit('baton/v1/task.proto', /message CancelTaskRequest \{/, 'message CancelTaskRequest {{');
    expect(generate(root, false, print)).toBe(1);
    expect(printed.join('\n')).toMatch(/task\.proto:\d+/);
    expect(existsSync(generated('baton/v1/task_pb.js'))).toBe(true);
  });
});

test('lint: a name against the STANDARD fails in the contract, and is not looked at in what others define', () => {
  edit('third_party/container_executor.proto', 'string input_file', 'string InputFile');
  expect(runTool(root, 'buf', ['lint'])).toEqual({ code: 0, output: '' });
  edit('baton/v1/task.proto', /\bidempotency_key = /, 'IdempotencyKey = ');
  expect(runTool(root, 'buf', ['lint']).output).toMatch(/task\.proto:\d+:\d+:Field name "IdempotencyKey"/);
});
