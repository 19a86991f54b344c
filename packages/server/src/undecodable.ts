import type { UniversalServerResponse } from '@connectrpc/connect/protocol';

/** How Connect begins the message of an error about bytes that are no message of the type. */
const PARSE = 'parse binary:';
const INTERNAL = '13';
const INVALID_ARGUMENT = '3';

/**
 * Connect calls binary that cannot be decoded `internal`, as if the server were to blame, and JSON that cannot be decoded
 * `invalid_argument`. Here both are the caller's.
 */
export async function withCallersFault(answer: UniversalServerResponse): Promise<UniversalServerResponse> {
  const { status, header, trailer, body } = answer;
  if (
    trailer?.get('grpc-status') === INTERNAL &&
    decodeURIComponent(trailer.get('grpc-message') ?? '').startsWith(PARSE)
  )
    trailer.set('grpc-status', INVALID_ARGUMENT);
  if (status !== 500 || !body || header?.get('content-type') !== 'application/json') return answer;
  const bytes = await collect(body);
  const said = JSON.parse(new TextDecoder().decode(bytes)) as { code?: string; message?: string };
  if (said.code !== 'internal' || !said.message?.startsWith(PARSE)) return { ...answer, body: once(bytes) };
  const corrected = new TextEncoder().encode(JSON.stringify({ ...said, code: 'invalid_argument' }));
  header.set('content-length', String(corrected.length));
  return { ...answer, status: 400, body: once(corrected) };
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
