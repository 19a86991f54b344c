import { Code } from '@connectrpc/connect';
import { describe, expect, test } from 'vitest';
import { AnswerReader } from './http-answer.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const plain =
  'HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 5\r\nKeep-Alive: timeout=75\r\n\r\nhello';

/** What is read of a text that comes in parts of `size` bytes. */
function read(text: string, size = text.length) {
  const reader = new AnswerReader(1_000);
  for (let at = 0; at < text.length; at += size) {
    const answer = reader.take(bytes(text.slice(at, at + size)));
    if (answer !== undefined) return { answer, body: new TextDecoder().decode(answer.body), read: at + size };
  }
  return undefined;
}

describe.each([1, 2, 7, 1_000])('in parts of %i bytes', (size) => {
  test('an answer that says its length', () => {
    const found = read(plain, size)!;
    expect(found.body).toBe('hello');
    expect(found.answer).toMatchObject({ status: 200, keepsAlive: true, keepAliveMs: 75_000 });
    expect(found.answer.headers.type).toBe('application/proto');
    expect(found.answer.headers().get('content-length')).toBe('5');
  });

  test('an answer in chunks, with trailers', () => {
    const head = 'HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n';
    expect(read(`${head}3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Late: 1\r\n\r\n`, size)).toMatchObject({
      body: 'hello',
      answer: { status: 404 },
    });
  });

  test('what is said before the answer', () => {
    expect(read(`HTTP/1.1 100 Continue\r\n\r\n${plain}`, size)!.body).toBe('hello');
  });
});

test('an answer that ends with its connection', () => {
  const reader = new AnswerReader(1_000);
  expect(reader.take(bytes('HTTP/1.0 200 OK\r\n\r\nhel'))).toBeUndefined();
  expect(reader.take(bytes('lo'))).toBeUndefined();
  const answer = reader.end()!;
  expect(new TextDecoder().decode(answer.body)).toBe('hello');
  expect(answer.keepsAlive).toBe(false);
});

test('an answer that is cut is none', () => {
  const reader = new AnswerReader(1_000);
  reader.take(bytes(plain.slice(0, -1)));
  expect(reader.end()).toBeUndefined();
});

test('a connection that is to be closed carries nothing more', () => {
  expect(read(plain.replace('Keep-Alive: timeout=75', 'Connection: close'))!.answer.keepsAlive).toBe(false);
});

test('more than is taken is refused by its head', () => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n';
  expect(() => read(head)).toThrow(expect.objectContaining({ code: Code.ResourceExhausted }));
  const chunk = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n';
  expect(() => read(chunk)).toThrow(expect.objectContaining({ code: Code.ResourceExhausted }));
});

test.each([
  ['no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n'],
  ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello'],
  ['more than its length', `${plain}!`],
  ['a compression that was not asked for', 'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n'],
  ['chunks without a length', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
])('%s is no answer', (_, text) => {
  expect(() => read(text)).toThrow(expect.objectContaining({ code: Code.Unavailable }));
});
