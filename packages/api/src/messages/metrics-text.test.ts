import { expect, test } from 'vitest';
import { metricsText } from './metrics-text.ts';

test('values of one name stand together under its help, with labels whose odd characters are escaped', () => {
  const gauge = { help: 'Load.', type: 'gauge' as const };
  expect(
    metricsText([
      { name: 'load', labels: { worker: 'a "b"\\\n' }, value: 1.5, ...gauge },
      { name: 'tasks_total', labels: {}, value: 3, help: 'Tasks.', type: 'counter' },
      { name: 'load', labels: { worker: 'c' }, value: 0, ...gauge },
    ]),
  ).toBe(
    [
      '# HELP load Load.',
      '# TYPE load gauge',
      'load{worker="a \\"b\\"\\\\\\n"} 1.5',
      'load{worker="c"} 0',
      '# HELP tasks_total Tasks.',
      '# TYPE tasks_total counter',
      'tasks_total 3',
      '',
    ].join('\n'),
  );
});
