import { expect, test } from 'vitest';
import { parseOptions } from './options.ts';

test('each service has its own default port', () => {
  expect(parseOptions(['generator'], {})).toEqual({
    service: 'generator',
    port: 50061,
    host: '127.0.0.1',
    delayMs: 0,
    stopWithStdin: false,
  });
  expect(parseOptions(['analyzer'], {})).toMatchObject({ port: 50062 });
  expect(parseOptions(['reporter'], {})).toMatchObject({ port: 50063 });
});

test('takes the name of the registry too, and options in any place', () => {
  expect(parseOptions(['--port', '0', 'report-generator', '--delay-ms=250'], {})).toMatchObject({
    service: 'reporter',
    port: 0,
    delayMs: 250,
  });
});

test('the delay may come from the environment; the option wins', () => {
  expect(parseOptions(['analyzer'], { ENERGY_DELAY_MS: '70' })).toMatchObject({ delayMs: 70 });
  expect(parseOptions(['analyzer', '--delay-ms', '0'], { ENERGY_DELAY_MS: '70' })).toMatchObject({ delayMs: 0 });
});

test.each([
  [[], 'say which service'],
  [['toaster'], '"toaster" is not a service'],
  [['generator', 'analyzer'], 'one service at a time'],
  [['generator', '--port', '70000'], '--port must be a whole number from 0 to 65535'],
  [['generator', '--port', '-1'], '--port'],
  [['generator', '--delay-ms', 'soon'], '--delay-ms must be a whole number'],
  [['generator', '--fast'], "Unknown option '--fast'"],
])('%j is refused: %s', (args, message) => {
  expect(() => parseOptions(args, {})).toThrow(message);
});

test('a broken environment is refused by name', () => {
  expect(() => parseOptions(['analyzer'], { ENERGY_DELAY_MS: 'x' })).toThrow('ENERGY_DELAY_MS must be');
});
