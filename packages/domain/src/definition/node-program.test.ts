import { describe, expect, it } from 'vitest';
import { parseDefinition } from './definition.fixture.ts';
import { fromStoredForm, toStoredForm } from './stored-form.ts';

function parse(node: object, more: object = {}) {
  return parseDefinition({ name: 'x', ...more, nodes: { a: node } });
}

function nodeOf(node: object, more: object = {}) {
  const parsed = parse(node, more);
  if (!parsed.ok) expect.fail(JSON.stringify(parsed.problems));
  return parsed.definition.nodes[0]!;
}

function problemsOf(node: object, more: object = {}) {
  const parsed = parse(node, more);
  return parsed.ok ? [] : parsed.problems.map(({ code, path }) => `${code} ${path}`);
}

describe('nodes that a program carries out', () => {
  it('reads a process, with the settings as the contract has them', () => {
    const process = {
      command: ['python3', 'train.py', '', ' '],
      output: 'stdout_json',
      stop_grace_seconds: 2.5,
      memory_bytes: 1_073_741_824,
      cpu_time_seconds: 60,
      permanent_exit_codes: [2, 64],
      keep_warm: true,
    };
    expect(nodeOf({ process })).toMatchObject({
      kind: 'a',
      executor: {
        type: 'process',
        config: {
          command: ['python3', 'train.py', '', ' '],
          output: 'stdout_json',
          stopGraceMs: 2_500,
          memoryBytes: 1_073_741_824,
          cpuTimeMs: 60_000,
          permanentExitCodes: [2, 64],
          keepWarm: true,
        },
      },
    });
  });

  it('reads a function behind a URL, and a container', () => {
    const http = { url: 'https://f.example/run', secret_headers: { authorization: 'F_TOKEN' } };
    expect(nodeOf({ http }).executor).toEqual({
      type: 'http',
      config: { url: 'https://f.example/run', secretHeaders: { authorization: 'F_TOKEN' } },
    });
    const container = { image: 'alpine:3', command: ['ls'], mounts: [{ source: '/data', target: '/d' }] };
    expect(nodeOf({ container }).executor).toEqual({
      type: 'container',
      config: { image: 'alpine:3', command: ['ls'], mounts: [{ source: '/data', target: '/d', readOnly: false }] },
    });
  });

  it('merges environments, of two variables of one name the node’s', () => {
    const defaults = { environment: { pass: ['HF_TOKEN'], set: { A: '1', B: '1' }, working_directory: '/srv' } };
    const node = nodeOf({ task: 't', environment: { pass: ['OTHER'], set: { B: '2' } } }, { defaults });
    expect(node.environment).toEqual({
      pass: ['HF_TOKEN', 'OTHER'],
      set: { A: '1', B: '2' },
      workingDirectory: '/srv',
    });
    expect(nodeOf({ task: 't' })).not.toHaveProperty('environment');
  });

  it('is kept and read again', () => {
    const parsed = parse({ process: { command: ['x'] }, environment: { set: { A: 'b' } } });
    if (!parsed.ok) expect.fail(JSON.stringify(parsed.problems));
    expect(fromStoredForm(toStoredForm(parsed.definition))).toEqual(parsed.definition);
  });

  it.each([
    ['a command that a shell would read', { process: { command: 'ls -l' } }, ['WRONG_TYPE nodes.a.process.command']],
    ['no command', { process: {} }, ['MISSING_FIELD nodes.a.process.command']],
    ['an empty command', { process: { command: [] } }, ['EMPTY_FIELD nodes.a.process.command']],
    ['NUL in an argument', { process: { command: ['a', 'b\0'] } }, ['INVALID_NAME nodes.a.process.command[1]']],
    ['a field of another', { process: { command: ['a'], image: 'x' } }, ['UNKNOWN_FIELD nodes.a.process.image']],
    ['an unknown output', { process: { command: ['a'], output: 'xml' } }, ['UNKNOWN_VALUE nodes.a.process.output']],
    [
      'an exit code beyond 255',
      { process: { command: ['a'], permanent_exit_codes: [256] } },
      ['OUT_OF_RANGE nodes.a.process.permanent_exit_codes[0]'],
    ],
    ['a file as a URL', { http: { url: 'file:///etc/passwd' } }, ['MALFORMED_ADDRESS nodes.a.http.url']],
    [
      'a relative mount',
      { container: { image: 'a', mounts: [{ source: '/a', target: 'b' }] } },
      ['INVALID_NAME nodes.a.container.mounts[0].target'],
    ],
    ['two executors', { process: { command: ['a'] }, task: 't' }, ['TWO_EXECUTORS nodes.a']],
    [
      'LD_PRELOAD',
      { task: 't', environment: { set: { LD_PRELOAD: '/x.so' } } },
      ['INVALID_NAME nodes.a.environment.set.LD_PRELOAD'],
    ],
    [
      'a relative working directory',
      { task: 't', environment: { working_directory: '../x' } },
      ['INVALID_NAME nodes.a.environment.working_directory'],
    ],
  ])('refuses %s', (_, node, problems) => {
    expect(problemsOf(node)).toEqual(problems);
  });
});
