import { Code, ConnectError } from '@connectrpc/connect';

/** An answer of HTTP/1.1 in full. */
export interface Answer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly body: Uint8Array;
  /** The connection may carry another call, for so long. */
  readonly keepsAlive: boolean;
  readonly keepAliveMs?: number;
}

/** All of them, made when they are asked for; and the one that each answer is looked at for. */
export interface AnswerHeaders {
  (): Headers;
  readonly type: string | undefined;
}

const MAX_HEAD_BYTES = 64 * 1024;
const CR = 13;
const LF = 10;
const decoder = new TextDecoder('latin1');

interface Head {
  readonly status: number;
  readonly lines: readonly string[];
  readonly type: string | undefined;
  readonly length: number | 'chunked' | 'close';
  readonly keepsAlive: boolean;
  readonly keepAliveMs: number | undefined;
}

/** Reads one answer from what a connection brings. @throws ConnectError if it is none, or too large */
export class AnswerReader {
  readonly #maxBytes: number;
  #bytes: Uint8Array = new Uint8Array();
  /** More room than is used, so that many small parts are not copied again and again. */
  #used = 0;
  #head: Head | undefined;
  /** Where in the bytes the body begins. */
  #bodyAt = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Undefined until the answer is there in full. */
  take(chunk: Uint8Array): Answer | undefined {
    this.#append(chunk);
    while (this.#head === undefined) {
      const end = endOfHead(this.#bytes, this.#bodyAt, this.#used);
      if (end < 0) {
        if (this.#used - this.#bodyAt > MAX_HEAD_BYTES) throw broken('its headers do not end');
        return undefined;
      }
      const head = readHead(decoder.decode(this.#bytes.subarray(this.#bodyAt, end - 4)));
      this.#bodyAt = end;
      // 1xx: the answer comes after it.
      if (head.status >= 200) this.#head = head;
    }
    const { length } = this.#head;
    if (length === 'close') {
      this.#limit(this.#used - this.#bodyAt);
      return undefined;
    }
    if (length === 'chunked') return this.#chunked(this.#head);
    this.#limit(length);
    const end = this.#bodyAt + length;
    if (this.#used > end) throw broken('it is longer than it says');
    return this.#used < end ? undefined : answerOf(this.#head, this.#bytes.subarray(this.#bodyAt, end));
  }

  /** The connection has ended: the answer, if that is how it ends. */
  end(): Answer | undefined {
    return this.#head?.length === 'close'
      ? answerOf(this.#head, this.#bytes.subarray(this.#bodyAt, this.#used))
      : undefined;
  }

  #append(chunk: Uint8Array): void {
    if (this.#used === 0) {
      this.#bytes = chunk;
    } else {
      if (this.#used + chunk.byteLength > this.#bytes.byteLength || this.#bytes.byteLength === this.#used) {
        const larger = new Uint8Array(2 * (this.#used + chunk.byteLength));
        larger.set(this.#bytes.subarray(0, this.#used));
        this.#bytes = larger;
      }
      this.#bytes.set(chunk, this.#used);
    }
    this.#used += chunk.byteLength;
  }

  #limit(bytes: number): void {
    if (bytes > this.#maxBytes)
      throw new ConnectError(
        `the answer has more than the ${this.#maxBytes} bytes that are taken`,
        Code.ResourceExhausted,
      );
  }

  /** From the start each time: whoever sends chunks to this machine is a proxy, and sends few. */
  #chunked(head: Head): Answer | undefined {
    const parts: Uint8Array[] = [];
    let total = 0;
    for (let at = this.#bodyAt; ; ) {
      const lineEnd = endOfLine(this.#bytes, at, this.#used);
      if (lineEnd < 0) return undefined;
      const line = decoder.decode(this.#bytes.subarray(at, lineEnd - 2));
      const match = /^([0-9a-f]{1,8})\s*(?:;|$)/i.exec(line);
      if (match === null) throw broken('a part of it has no length');
      const size = Number.parseInt(match[1]!, 16);
      total += size;
      this.#limit(total);
      if (size === 0) {
        // Trailers, which mean nothing here, and an empty line.
        for (let next = lineEnd; ; ) {
          const end = endOfLine(this.#bytes, next, this.#used);
          if (end < 0) return undefined;
          if (end === next + 2) return answerOf({ ...head, keepsAlive: false }, joinParts(parts, total));
          next = end;
        }
      }
      at = lineEnd + size + 2;
      if (at > this.#used) return undefined;
      parts.push(this.#bytes.subarray(lineEnd, lineEnd + size));
    }
  }
}

function joinParts(parts: readonly Uint8Array[], total: number): Uint8Array {
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

function answerOf(head: Head, body: Uint8Array): Answer {
  const all = () => {
    const headers = new Headers();
    for (const line of head.lines) headers.append(...fieldOf(line));
    return headers;
  };
  return {
    status: head.status,
    headers: Object.assign(all, { type: head.type }),
    body,
    keepsAlive: head.keepsAlive && head.length !== 'close',
    ...(head.keepAliveMs !== undefined && { keepAliveMs: head.keepAliveMs }),
  };
}

function readHead(text: string): Head {
  const [statusLine, ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(statusLine!);
  if (status === null) throw broken('it is not of HTTP/1');
  let type: string | undefined;
  let length: Head['length'] = status[2] === '204' || status[2] === '304' ? 0 : 'close';
  let keepsAlive = status[1] === '1';
  let keepAliveMs: number | undefined;
  for (const line of lines) {
    const [name, value] = fieldOf(line);
    switch (name) {
      case 'content-type':
        type = value;
        break;
      case 'content-length':
        if (!/^\d{1,15}$/.test(value)) throw broken('its length is no number');
        if (length === 'close') length = Number(value);
        break;
      case 'transfer-encoding':
        if (value.toLowerCase() !== 'chunked') throw broken(`it is in ${value}`);
        length = 'chunked';
        break;
      case 'content-encoding':
        if (value.toLowerCase() !== 'identity') throw broken(`it is in ${value}, which was not asked for`);
        break;
      case 'connection':
        keepsAlive &&= value.toLowerCase() !== 'close';
        break;
      case 'keep-alive': {
        const seconds = /(?:^|,)\s*timeout=(\d+)/i.exec(value)?.[1];
        if (seconds !== undefined) keepAliveMs = Number(seconds) * 1000;
        break;
      }
    }
  }
  return { status: Number(status[2]), lines, type, length, keepsAlive, keepAliveMs };
}

function fieldOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(':');
  if (colon < 1) throw broken('one of its headers has no name');
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

/** Where the bytes after the empty line begin; -1: not there yet. */
function endOfHead(bytes: Uint8Array, from: number, to: number): number {
  for (let at = bytes.indexOf(CR, from); at >= 0 && at + 3 < to; at = bytes.indexOf(CR, at + 1))
    if (bytes[at + 1] === LF && bytes[at + 2] === CR && bytes[at + 3] === LF) return at + 4;
  return -1;
}

function endOfLine(bytes: Uint8Array, from: number, to: number): number {
  const at = bytes.indexOf(LF, from);
  return at >= from + 1 && at < to && bytes[at - 1] === CR ? at + 1 : -1;
}

function broken(how: string): ConnectError {
  return new ConnectError(`the answer is not understood: ${how}`, Code.Unavailable);
}
