import { describe, expect, it } from 'vitest';
import { resolveInput } from './input-template.ts';
import type { JsonValue } from './json.ts';

const outputs = new Map<string, JsonValue>([
  ['load', { files: ['a.csv', 'b.csv'], rows: 3, none: null }],
  ['__proto__', { constructor: 'a value' }],
]);

describe('an input', () => {
  it('without references is the same value', () => {
    const template = { a: [1, 'x', null, { b: true }], $other: 'a key like any other' };
    expect(resolveInput(template, null, outputs)).toEqual({ ok: true, value: template });
  });

  it('gets outputs, parts of outputs and parts of the run input wherever they are named', () => {
    const template = {
      all: { $from: 'load' },
      second: { $from: 'load', path: ['files', 1] },
      nothing: { $from: 'load', path: ['none'] },
      list: [{ $input: ['who'] }, { $input: [] }],
    };
    expect(resolveInput(template, { who: 'me' }, outputs)).toEqual({
      ok: true,
      value: { all: outputs.get('load'), second: 'b.csv', nothing: null, list: ['me', { who: 'me' }] },
    });
    expect(resolveInput({ $input: [] }, 7, outputs)).toEqual({ ok: true, value: 7 });
  });

  it('is data in its names, too', () => {
    const template = JSON.parse('{"__proto__": {"$from": "__proto__", "path": ["constructor"]}}') as JsonValue;
    const resolved = resolveInput(template, null, outputs);
    expect(JSON.stringify(resolved)).toBe('{"ok":true,"value":{"__proto__":"a value"}}');
  });

  it('does not fill in what a filled-in value happens to look like', () => {
    const looksLike = new Map<string, JsonValue>([['a', { $from: 'secret' }]]);
    expect(resolveInput({ $from: 'a' }, null, looksLike)).toEqual({ ok: true, value: { $from: 'secret' } });
  });

  it('says every reference that leads nowhere', () => {
    const template: JsonValue = [
      { $from: 'absent' },
      { $from: 'load', path: ['files', 2, 'x'] },
      { $from: 'load', path: ['rows', 'toString'] },
      { $from: 'load', path: ['files', 'length'] },
      { $from: 'load', path: [0] },
      { $from: 'load', path: ['constructor'] },
      { $input: ['k'] },
    ];
    const resolved = resolveInput(template, null, outputs);
    expect(resolved.ok ? [] : resolved.unresolved.map(({ message }) => message)).toEqual([
      'the output of "absent" is not there',
      'the output of "load" has nothing at ["files",2]',
      'the output of "load" has nothing at ["rows","toString"]',
      'the output of "load" has nothing at ["files","length"]',
      'the output of "load" has nothing at [0]',
      'the output of "load" has nothing at ["constructor"]',
      'the run input has nothing at ["k"]',
    ]);
    expect(resolved.ok ? [] : resolved.unresolved[0]?.reference).toEqual({
      source: 'output',
      node: 'absent',
      path: [],
    });
  });
});
