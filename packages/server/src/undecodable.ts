import type { UniversalServerResponse } from '@connectrpc/connect/protocol';

/** How Connect begins the message of an error about bytes that are no message of the type. */
const PARSE = 'parse binary:';
/** What a message that is nested without end comes to. */
const OVERFLOW = 'Maximum call stack size exceeded';
const INTERNAL = '13';
const INVALID_ARGUMENT = '3';
/** Flags of the frame that ends a stream. */
const CONNECT_END = 0b10;
const GRPC_WEB_TRAILER = 0b1000_0000;
const FRAME_HEAD_BYTES = 5;
/** Errors of this kind are short. */
const MAX_END_BYTES = 4 * 1024;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Connect calls binary that cannot be decoded `internal`, as if the server were to blame, and JSON that cannot be decoded
 * `invalid_argument`. Here both are the caller's, in each protocol. It decodes before any interceptor is called, so the answer is all
 * that there is to see, and its words are the only mark.
 */
export async function withCallersFault(answer: UniversalServerResponse): Promise<UniversalServerResponse> {
  const { status, header, trailer, body } = answer;
  // gRPC: an error before the first message is in the trailers by now.
  if (trailer) correctTrailers(trailer);
  if (!body || header?.has('content-encoding')) return answer;
  const type = header?.get('content-type') ?? '';
  if (type === 'application/json' && (status === 500 || status === 400)) return withCorrectedError(answer, body);
  // Here each chunk is one frame, and the end of a call that could not be decoded is the first of them.
  if (type.startsWith('application/connect')) return { ...answer, body: firstChanged(body, correctedConnectEnd) };
  if (type.startsWith('application/grpc-web')) return { ...answer, body: firstChanged(body, correctedWebTrailer) };
  return answer;
}

/** What is to be said of a message that cannot be decoded; undefined: the error is another. */
function correctedMessage(message: string, isInternal: boolean): string | undefined {
  if (message.includes(OVERFLOW)) return 'the message is nested too deep';
  return isInternal && message.startsWith(PARSE) ? message : undefined;
}

function correctTrailers(trailer: Headers): boolean {
  const message = decodeURIComponent(trailer.get('grpc-message') ?? '');
  const corrected = correctedMessage(message, trailer.get('grpc-status') === INTERNAL);
  if (corrected === undefined) return false;
  trailer.set('grpc-status', INVALID_ARGUMENT);
  trailer.set('grpc-message', encodeURIComponent(corrected));
  return true;
}

function correctError(error: { code?: string; message?: string } | undefined): boolean {
  const corrected = error && correctedMessage(error.message ?? '', error.code === 'internal');
  if (error === undefined || corrected === undefined) return false;
  error.code = 'invalid_argument';
  error.message = corrected;
  return true;
}

async function withCorrectedError(
  answer: UniversalServerResponse,
  body: AsyncIterable<Uint8Array>,
): Promise<UniversalServerResponse> {
  const bytes = await collect(body);
  const error = JSON.parse(decoder.decode(bytes));
  if (!correctError(error)) return { ...answer, body: once(bytes) };
  const corrected = encoder.encode(JSON.stringify(error));
  answer.header?.set('content-length', String(corrected.length));
  return { ...answer, status: 400, body: once(corrected) };
}

function correctedConnectEnd(flags: number, data: Uint8Array): Uint8Array | undefined {
  if ((flags & CONNECT_END) === 0) return undefined;
  const end = JSON.parse(decoder.decode(data));
  return correctError(end.error) ? encoder.encode(JSON.stringify(end)) : undefined;
}

function correctedWebTrailer(flags: number, data: Uint8Array): Uint8Array | undefined {
  if ((flags & GRPC_WEB_TRAILER) === 0) return undefined;
  const trailer = new Headers();
  for (const line of decoder.decode(data).split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) trailer.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  if (!correctTrailers(trailer)) return undefined;
  return encoder.encode([...trailer].map(([name, value]) => `${name}: ${value}\r\n`).join(''));
}

async function* firstChanged(
  frames: AsyncIterable<Uint8Array>,
  change: (flags: number, data: Uint8Array) => Uint8Array | undefined,
): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for await (const frame of frames) {
    const isShort = frame.byteLength >= FRAME_HEAD_BYTES && frame.byteLength <= MAX_END_BYTES;
    const changed = isFirst && isShort ? change(frame[0]!, frame.subarray(FRAME_HEAD_BYTES)) : undefined;
    isFirst = false;
    yield changed === undefined ? frame : framed(frame[0]!, changed);
  }
}

function framed(flags: number, data: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEAD_BYTES + data.byteLength);
  frame[0] = flags;
  new DataView(frame.buffer).setUint32(1, data.byteLength);
  frame.set(data, FRAME_HEAD_BYTES);
  return frame;
}

/** An error's body: one small piece. */
async function collect(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
