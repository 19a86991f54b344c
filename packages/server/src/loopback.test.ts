import { expect, it } from 'vitest';
import { assertLoopback, NotLoopbackError } from './index.ts';

it.each(['localhost', 'LocalHost', 'a.localhost', '127.0.0.1', '127.255.0.9', '::1', '[::1]'])(
  '%s is loopback',
  (host) => {
    expect(() => assertLoopback(host)).not.toThrow();
  },
);

it.each([
  '0.0.0.0',
  '::',
  '',
  '10.0.0.1',
  '127.0.0.256',
  '127.0.0.1.example',
  'localhost.example',
  'notlocalhost',
  '::2',
])('"%s" is not loopback, and the error says so', (host) => {
  expect(() => assertLoopback(host)).toThrow(NotLoopbackError);
  expect(() => assertLoopback(host)).toThrow(`${host} is not a loopback address`);
});
