import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

const CHAIN = {
  workflow_name: 'energy-pipeline',
  start_node: 'generator',
  execution_mode: 'grpc',
  service_registry: { generator: '127.0.0.1:50051', analyzer: '127.0.0.1:50052' },
  containers: {
    generator: {
      id: 'generator',
      input_file: 'in.csv',
      output_file: 'mid.csv',
      next_node: 'analyzer',
      timeout_seconds: 30,
    },
    analyzer: { id: 'analyzer', input_file: 'mid.csv', output_file: 'out.csv', next_node: null, timeout_seconds: 60 },
  },
};

async function withFile(name: string, content: unknown) {
  const line = await commandLine();
  const file = join(line.directory, name);
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  return { ...line, file };
}

test('a sound file is said to be sound, without a server', async () => {
  const { baton, fake, file } = await withFile('chain.json', CHAIN);
  const { exitCode, stdout } = await baton(['workflow', 'validate', file]);
  expect(exitCode).toBe(0);
  expect(stdout).toContain('workflow "energy-pipeline" is sound, 2 nodes');
  const json = JSON.parse((await baton(['workflow', 'validate', file, '-o', 'json'])).stdout);
  expect(json).toMatchObject({ valid: true, name: 'energy-pipeline', nodes: ['generator', 'analyzer'], problems: [] });
  expect(fake.calls).toEqual([]);
});

test('a broken file: all problems at once, with path, code, message and hint; exit 1', async () => {
  const broken = structuredClone(CHAIN) as unknown as { [key: string]: Record<string, Record<string, unknown>> };
  broken.containers!.generator!.next_node = 'analyser';
  broken.containers!.analyzer!.timeout_seconds = 'long';
  broken.service_registry = { generator: 'http://127.0.0.1:50051' } as never;
  const { baton, fake, file } = await withFile('broken.json', broken);
  const { exitCode, stdout, stderr } = await baton(['workflow', 'validate', file]);
  expect(exitCode).toBe(1);
  for (const code of ['UNKNOWN_NEXT_NODE', 'WRONG_TYPE', 'MALFORMED_ADDRESS', 'MISSING_ADDRESS']) {
    expect(stdout).toContain(code);
  }
  expect(stdout).toContain('containers.generator.next_node  UNKNOWN_NEXT_NODE');
  expect(stdout).toContain('hint: did you mean "analyzer"?');
  expect(stderr).toMatch(/broken\.json has [0-9]+ problems/);

  const json = await baton(['workflow', 'validate', file, '-o', 'json']);
  expect(json.exitCode).toBe(1);
  const { valid, problems } = JSON.parse(json.stdout) as { valid: boolean; problems: { path: string; code: string }[] };
  expect(valid).toBe(false);
  expect(problems).toContainEqual(
    expect.objectContaining({ path: 'containers.generator.next_node', code: 'UNKNOWN_NEXT_NODE' }),
  );
  expect(stdout.split('\n').filter((line) => / {2}[A-Z_]+$/.test(line))).toHaveLength(problems.length);
  expect(fake.calls).toEqual([]);
});

test('text that is no JSON is a problem with line and column', async () => {
  const { baton, file } = await withFile('text.json', '{\n  "name": "x",\n  oops\n}');
  const { exitCode, stdout } = await baton(['workflow', 'validate', file, '-o', 'json']);
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ valid: false, problems: [{ code: 'SYNTAX_ERROR', line: 3, column: 3 }] });
});

test('names in a broken file cannot rewrite the terminal', async () => {
  const nodes = [{ id: 'a\u001b[2J', task: 'k', needs: ['\u001b]0;owned\u0007', 'b\rc'] }];
  const { baton, file } = await withFile('evil.json', { name: 'evil', nodes });
  const { exitCode, stdout, stderr } = await baton(['workflow', 'validate', file]);
  expect(exitCode).toBe(1);
  expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
});

test('a directory is no workflow file', async () => {
  const { baton, directory } = await withFile('x.json', {});
  const { exitCode, stderr } = await baton(['workflow', 'validate', directory]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('cannot be read: EISDIR');
});

test('apply stores a file; once more it is unchanged; list shows it', async () => {
  const { baton, file } = await withFile('chain.json', CHAIN);
  expect((await baton(['workflow', 'apply', file])).stdout).toContain('is stored as version 1');
  expect((await baton(['workflow', 'apply', file])).stdout).toContain('is unchanged, version 1');
  const json = JSON.parse((await baton(['workflow', 'apply', file, '-o', 'json'])).stdout);
  expect(json).toMatchObject({ name: 'energy-pipeline', version: 1, changed: false });
  expect((await baton(['workflow', 'list'])).stdout).toMatch(/\nenergy-pipeline +1 +2 /);
  expect(JSON.parse((await baton(['workflow', 'list', '-o', 'json'])).stdout)).toMatchObject([{ version: 1 }]);
});

test('a broken file is not applied', async () => {
  const { baton, fake, file } = await withFile('broken.json', { ...CHAIN, start_node: 'nobody' });
  const { exitCode, stderr } = await baton(['workflow', 'apply', file]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('UNKNOWN_START_NODE');
  expect(fake.calls).toEqual([]);
});

test('the nodes of a file and of a stored workflow, in a table and as a flowchart', async () => {
  const { baton, file } = await withFile('chain.json', CHAIN);
  expect((await baton(['workflow', 'show', file])).stdout).toMatch(/\nanalyzer +ContainerExecutor\/Execute +generator/);
  const drawn = (await baton(['workflow', 'show', file, '--mermaid'])).stdout;
  expect(drawn).toMatch(/^flowchart TD\n/);
  expect(drawn).toContain('  n0 --> n1\n');
  await baton(['workflow', 'apply', file]);
  expect((await baton(['workflow', 'show', 'energy-pipeline', '--mermaid'])).stdout).toBe(drawn);
});
