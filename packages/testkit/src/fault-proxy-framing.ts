/** What the proxy knows of a protocol: where calls begin and where their answers do. */
export type ProxyProtocol = 'http2' | 'postgres' | 'bytes';

/** A piece of one direction. `offset` is where it begins in the bytes that were fed. */
export interface Piece {
  readonly offset: number;
  /** Bytes of payload. */
  readonly size: number;
  /** The call that it belongs to; 0 where a protocol has one call at a time. */
  readonly call: number;
  readonly what: 'message' | 'end' | 'other';
}

/** Follows one direction of a connection from its first byte on. */
export interface Framing {
  /** The pieces whose header is completed by these bytes; an offset below 0 lies in bytes that were fed before. */
  feed(bytes: Uint8Array): Piece[];
}

const PREFACE_BYTES = 24;
const FRAME_DATA = 0;
const FRAME_HEADERS = 1;
const FLAG_END_STREAM = 1;

export function framingOf(protocol: ProxyProtocol, direction: 'request' | 'answer'): Framing {
  switch (protocol) {
    case 'http2':
      return headed(direction === 'request' ? PREFACE_BYTES : 0, 9, (header) => ({
        length: (header[0]! << 16) | (header[1]! << 8) | header[2]!,
        call: (((header[5]! & 0x7f) << 24) | (header[6]! << 16) | (header[7]! << 8) | header[8]!) >>> 0,
        what:
          header[3] === FRAME_DATA
            ? 'message'
            : header[3] === FRAME_HEADERS && (header[4]! & FLAG_END_STREAM) !== 0
              ? 'end'
              : 'other',
      }));
    case 'postgres':
      // A start-up packet has no type byte, so what a client sends is taken as it comes; ReadyForQuery ends an answer.
      return direction === 'request'
        ? whole
        : headed(0, 5, (header) => ({
            length: ((header[1]! << 24) | (header[2]! << 16) | (header[3]! << 8) | header[4]!) - 4,
            call: 0,
            what: header[0] === 0x5a ? 'end' : 'message',
          }));
    case 'bytes':
      return whole;
  }
}

const whole: Framing = { feed: (bytes) => [{ offset: 0, size: bytes.length, call: 0, what: 'message' }] };

/** Pieces with a header of a fixed size that tells their length. */
function headed(
  skipBytes: number,
  headerBytes: number,
  read: (header: Uint8Array) => { length: number; call: number; what: Piece['what'] },
): Framing {
  const header = new Uint8Array(headerBytes);
  let skip = skipBytes;
  let have = 0;
  return {
    feed(bytes) {
      const pieces: Piece[] = [];
      let at = 0;
      while (at < bytes.length) {
        if (skip > 0) {
          const step = Math.min(skip, bytes.length - at);
          skip -= step;
          at += step;
          continue;
        }
        header[have++] = bytes[at++]!;
        if (have < headerBytes) continue;
        const { length, call, what } = read(header);
        pieces.push({ offset: at - headerBytes, size: length, call, what });
        have = 0;
        skip = length;
      }
      return pieces;
    },
  };
}
