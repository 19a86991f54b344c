import type { BlobRef } from '@baton/contract';
import type { JsonValue } from '@bufbuild/protobuf';
import { BatonError } from '../calls/error.ts';
import { blobValueOf } from '../data/blob-value.ts';

// An input or output as the contract's oneof has it. `input` and `output` name the same three cases.
type SentPayload =
  | { case: 'inputJson'; value: string }
  | { case: 'inputBytes'; value: Uint8Array }
  | { case: undefined; value?: undefined };

interface ReadPayload {
  readonly case: string | undefined;
  readonly value?: unknown;
}

/** JSON text that is sent byte for byte: what was typed or read keeps its digits, spaces and order of keys. */
export class JsonText {
  readonly text: string;

  /** Throws a SyntaxError when the text is not JSON. */
  constructor(text: string) {
    JSON.parse(text);
    this.text = text;
  }
}

/**
 * An input for the wire: bytes and `JsonText` as they are, anything else as JSON text, stringified once. `undefined` sends none.
 * Throws `BatonError` (invalid_argument, INPUT_NOT_JSON) for what JSON cannot say: cycles, bigints, functions.
 */
export function encodeInput(input: unknown): SentPayload {
  if (input === undefined) return { case: undefined };
  if (input instanceof JsonText) return { case: 'inputJson', value: input.text };
  if (input instanceof Uint8Array) return { case: 'inputBytes', value: input };
  let text: string | undefined;
  try {
    text = JSON.stringify(input);
  } catch (cause) {
    throw notJson(cause instanceof Error ? cause.message : String(cause), cause);
  }
  if (text === undefined) throw notJson(`a ${typeof input} cannot be sent`);
  return { case: 'inputJson', value: text };
}

function notJson(message: string, cause?: unknown): BatonError {
  return new BatonError({ code: 'invalid_argument', reason: 'INPUT_NOT_JSON', message, cause });
}

/** A payload that was asked for as text: JSON parsed, bytes as `Uint8Array`, a `BlobValue` for a blob, `undefined` where there is none. */
export function decodePayload(payload: ReadPayload): unknown {
  switch (payload.case) {
    case 'inputJson':
    case 'outputJson':
      return JSON.parse(payload.value as string);
    case 'input':
    case 'output':
      return payload.value as JsonValue;
    case 'inputBytes':
    case 'outputBytes':
      return payload.value as Uint8Array;
    case 'inputBlob':
    case 'outputBlob':
      return blobValueOf(payload.value as BlobRef);
    default:
      return undefined;
  }
}

/** Bytes of an input on the wire. */
export function sizeOfPayload(payload: { readonly case: string | undefined; readonly value?: unknown }): number {
  if (payload.case === 'inputJson') return new TextEncoder().encode(payload.value as string).length;
  return payload.case === 'inputBytes' ? (payload.value as Uint8Array).length : 0;
}
