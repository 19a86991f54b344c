import { blobInput, isBlobValue } from '../data/blob-value.ts';
import { WorkflowUsageError } from './errors.ts';
import { type JournalPayload, MAX_OUTPUT_BYTES } from './journal.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });
const nothing = new Uint8Array();

/**
 * A value as the journal keeps it. Throws `WorkflowUsageError` for what JSON cannot say, and for more than 2 MiB; `what` opens the message.
 */
export function encodeValue(value: unknown, what: string): JournalPayload {
  if (value === undefined) return { encoding: 1, bytes: nothing };
  if (value instanceof Uint8Array) return bounded({ encoding: 2, bytes: value }, what);
  if (isBlobValue(value)) {
    const { sha256, sizeBytes, encoding } = value;
    return { encoding: encoding === 'json' ? 1 : 2, bytes: nothing, blob: { sha256, sizeBytes } };
  }
  let text: string | undefined;
  let why = 'it is a function or a symbol';
  try {
    text = JSON.stringify(value);
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  if (text === undefined) throw new WorkflowUsageError(`${what} cannot be written as JSON: ${why}`);
  return bounded({ encoding: 1, bytes: encoder.encode(text) }, what);
}

/** The value that every replay sees, and the first run, too. */
export function decodeValue(payload: JournalPayload | undefined): unknown {
  if (payload === undefined) return undefined;
  const { encoding, bytes, blob } = payload;
  if (blob !== undefined) return blobInput({ ...blob, encoding: encoding === 1 ? 'json' : 'bytes' });
  if (encoding === 2) return bytes;
  return bytes.length === 0 ? undefined : JSON.parse(decoder.decode(bytes));
}

function bounded(payload: JournalPayload, what: string): JournalPayload {
  if (payload.bytes.length > MAX_OUTPUT_BYTES)
    throw new WorkflowUsageError(
      `OUTPUT_TOO_LARGE: ${what} has ${payload.bytes.length} bytes; at most ${MAX_OUTPUT_BYTES} are kept in the journal. Return a reference: where the bytes are, and not the bytes`,
    );
  return payload;
}
