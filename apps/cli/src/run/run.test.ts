import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FailureSchema, FailureType, NodeState, type Run, RunState } from '@baton/contract';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

const PIPELINE = `
name: energy
nodes:
  - id: generate
    task: generate
  - id: analyze
    task: analyze
    needs: [generate]
`;

async function withPipeline() {
  const line = await commandLine();
  const file = join(line.directory, 'pipeline.yaml');
  await writeFile(file, PIPELINE);
  return { ...line, file };
}

const startNode = (run: Run): void => {
  Object.assign(run.nodes[0]!, {
    state: NodeState.RUNNING,
    attempts: 1,
    worker: 'worker-1',
    startTime: timestampFromMs(0),
  });
};
const endNode = (run: Run): void => {
  Object.assign(run.nodes[0]!, { state: NodeState.SUCCEEDED, endTime: timestampFromMs(1_500) });
  run.nodesSucceeded = 1;
};
const failRun = (run: Run): void => {
  Object.assign(run.nodes[1]!, {
    state: NodeState.FAILED,
    attempts: 4,
    failure: create(FailureSchema, { type: FailureType.EVALUATION_ERROR, message: 'column \u001b[2Jmissing' }),
  });
  Object.assign(run, {
    state: RunState.FAILED,
    failedNodeId: 'analyze',
    failureMessage: 'EVALUATION_ERROR: column \u001b[2Jmissing',
  });
};

test('start FILE prints the id alone on stdout; the file and the input are sent', async () => {
  const { baton, fake, file, log } = await withPipeline();
  const { exitCode, stdout, stderr } = await baton(['run', 'start', file, '--input', 'year=2017', '--key', 'k']);
  expect([exitCode, stdout]).toEqual([0, '1\n']);
  expect(stderr).toContain('baton run watch 1');
  expect(fake.run('1')).toMatchObject({ workflowName: 'energy', inputPayload: { value: '{"year":2017}' } });
  expect(await log()).toMatchObject([{ command: 'run start', run_id: '1' }]);
});

test('start NAME runs a stored workflow', async () => {
  const { baton, file } = await withPipeline();
  await baton(['workflow', 'apply', file]);
  const { exitCode, stdout } = await baton(['run', 'start', 'energy', '--input-json', '{"a": 1}', '-o', 'json']);
  expect(exitCode).toBe(0);
  expect(JSON.parse(stdout)).toEqual({ id: '1', deduplicated: false });
});

test('a broken file is not started: every problem is on stderr, and nobody is asked', async () => {
  const { baton, fake, directory } = await withPipeline();
  const file = join(directory, 'broken.yaml');
  await writeFile(file, PIPELINE.replace('[generate]', '[generat]'));
  const { exitCode, stdout, stderr } = await baton(['run', 'start', file]);
  expect([exitCode, stdout]).toEqual([1, '']);
  expect(stderr).toContain('UNKNOWN_NEED');
  expect(stderr).toContain('has 1 problem');
  expect(fake.calls).toEqual([]);
});

test('off a terminal --watch prints one plain line for each change and ends with 0', async () => {
  const { baton, fake, file } = await withPipeline();
  const running = baton(['run', 'start', file, '--watch']);
  await running.stdout.shows('run 1 energy running');
  fake.updateRun('1', startNode);
  await running.stdout.shows('generate running');
  fake.updateRun('1', endNode);
  await running.stdout.shows('generate succeeded');
  fake.updateRun('1', (run) => Object.assign(run, { state: RunState.SUCCEEDED }));
  const { exitCode, stdout } = await running;
  expect(exitCode).toBe(0);
  expect(stdout.trimEnd().split('\n')).toEqual([
    'run 1 energy running',
    'node generate running, attempt 1, on worker-1',
    'node generate succeeded, attempt 1, 1.5 s, on worker-1',
    'run 1 energy succeeded',
  ]);
});

test('a run that failed ends with 1, saying which node and why', async () => {
  const { baton, fake, file } = await withPipeline();
  const running = baton(['run', 'start', file, '--watch']);
  await running.stdout.shows('running');
  fake.updateRun('1', failRun);
  const { exitCode, stdout, stderr } = await running;
  expect(exitCode).toBe(1);
  expect(stdout).toContain('node analyze failed, attempt 4, EVALUATION_ERROR: column missing');
  expect(stderr).toContain('run 1 failed at node "analyze": EVALUATION_ERROR: column missing');
  expect(stderr).toContain('baton run retry 1');
});

test('a run that was cancelled ends with 1', async () => {
  const { baton, file } = await withPipeline();
  await baton(['run', 'start', file]);
  const running = baton(['run', 'watch', '1']);
  await running.stdout.shows('running');
  expect((await baton(['run', 'cancel', '1', '--reason', 'wrong year'])).stdout).toBe('run 1 is cancelled\n');
  const { exitCode, stderr } = await running;
  expect(exitCode).toBe(1);
  expect(stderr).toContain('run 1 was cancelled: wrong year');
});

test('watch -o json is one object a line, on a terminal too', async () => {
  const { baton, fake, file } = await withPipeline();
  await baton(['run', 'start', file]);
  const running = baton(['run', 'watch', '1', '-o', 'json'], { columns: 80 });
  await running.stdout.shows('running');
  fake.updateRun('1', failRun);
  const { exitCode, stdout } = await running;
  expect(exitCode).toBe(1);
  const states = stdout
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { state: string }).state);
  expect(states).toEqual(['running', 'failed']);
  expect(stdout).not.toContain('\u001b');
});

test('on a terminal the table is drawn again in place, within its width', async () => {
  const { baton, fake, file } = await withPipeline();
  await baton(['run', 'start', file]);
  const running = baton(['run', 'watch', '1'], { columns: 60, env: { NO_COLOR: '1' } });
  await running.stdout.shows('○ pending');
  fake.updateRun('1', startNode);
  await running.stdout.shows('● running  1         2.0 s');
  fake.updateRun('1', (run) => {
    endNode(run);
    failRun(run);
  });
  const { exitCode, stdout } = await running;
  expect(exitCode).toBe(1);
  // A headline, the table's head and two nodes: four lines up before each drawing but the first.
  expect(stdout).toContain('\u001b[4A');
  const lastDrawing = stdout.slice(stdout.lastIndexOf('\u001b[4A'));
  const lines = lastDrawing.replaceAll(/\u001b\[[?0-9]*[A-Zhl]/g, '').split('\n');
  expect(lines[0]).toContain('✗ failed  run 1 of energy v1');
  expect(lines[2]).toMatch(/^\d +generate +✓ succeeded +1 +1\.5 s +worker-1/);
  expect(lines[3]).toMatch(/^\d +analyze +✗ failed +4 /);
  for (const line of lines.slice(1)) expect([...line].length).toBeLessThanOrEqual(60);
});

test('on a terminal with fewer rows than nodes, what fails and runs is shown', async () => {
  const { baton, fake, directory } = await commandLine();
  const file = join(directory, 'wide.json');
  const nodes = Array.from({ length: 40 }, (_, index) => ({ id: `n${index}`, task: 'k' }));
  await writeFile(file, JSON.stringify({ name: 'wide', nodes }));
  await baton(['run', 'start', file]);
  fake.updateRun('1', (run) => {
    run.nodes[37]!.state = NodeState.FAILED;
    run.nodes[38]!.state = NodeState.RUNNING;
  });
  const running = baton(['run', 'watch', '1'], { columns: 60, env: { NO_COLOR: '1' } });
  await running.stdout.shows('more nodes');
  fake.updateRun('1', (run) => Object.assign(run, { state: RunState.SUCCEEDED }));
  const { stdout } = await running;
  expect(stdout).toContain('n37');
  expect(stdout).toContain('n38');
  expect(stdout).toContain('… and 32 more nodes');
});

test('a terminal that does not know its size is taken for one of 80 columns', async () => {
  const { baton, fake, file } = await withPipeline();
  await baton(['run', 'start', file]);
  fake.updateRun('1', (run) => Object.assign(run, { state: RunState.SUCCEEDED }));
  const { stdout } = await baton(['run', 'watch', '1'], { columns: 0 });
  expect(stdout).toContain('analyze');
});

test('list and get: tables for people, JSON for programs', async () => {
  const { baton, fake, file } = await withPipeline();
  await baton(['run', 'start', file]);
  fake.updateRun('1', failRun);
  const list = await baton(['run', 'list']);
  expect(list.stdout).toMatch(/\n1 +energy v1 +✗ failed +0\/2 .*EVALUATION_ERROR: column missing/);
  expect(JSON.parse((await baton(['run', 'list', '--state', 'running', '-o', 'json'])).stdout)).toEqual([]);
  const get = await baton(['run', 'get', '1']);
  expect(get.stdout).toContain('failed at analyze: EVALUATION_ERROR: column missing');
  expect(get.stdout).toMatch(/analyze +✗ failed +4 /);
  expect((await baton(['run', 'get', '1', '--mermaid'])).stdout).toMatch(/^flowchart TD\n.*class n1 failed\n/s);
  expect(JSON.parse((await baton(['run', 'get', '1', '-o', 'json'])).stdout)).toMatchObject({
    failedNodeId: 'analyze',
    nodes: [{ nodeId: 'generate' }, { nodeId: 'analyze', failure: { type: 'EVALUATION_ERROR' } }],
  });
});

test('retry names the execution and the nodes that run again', async () => {
  const { baton, fake, file } = await withPipeline();
  await baton(['run', 'start', file]);
  fake.updateRun('1', (run) => {
    endNode(run);
    failRun(run);
  });
  expect((await baton(['run', 'retry', '1'])).stdout).toBe('run 1 goes on as execution 2: analyze\n');
});
