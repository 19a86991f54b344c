import { PayloadEncoding, PayloadFormat } from '@baton/contract';
import { Refusal, unstorableAt } from '@baton/domain';
import type { JsonValue } from '@bufbuild/protobuf';
import { fromJson, toJson } from '@bufbuild/protobuf';
import { type Value, ValueSchema } from '@bufbuild/protobuf/wkt';
import { isDeeperThan } from '../wire/json-depth.ts';

export type Encoding = 1 | 2;

const encoder = new TextEncoder();

/** A payload as a request carries it, in one of three ways. */
export type PayloadIn =
  | { case: 'input'; value: Value }
  | { case: 'inputJson'; value: string }
  | { case: 'inputBytes'; value: Uint8Array }
  | { case: undefined; value?: undefined };

/**
 * The bytes that are kept. A JSON value is written as compact text; JSON text is checked and kept byte for byte; bytes are bytes.
 * JSON whose texts hold NUL or half of a surrogate pair is refused: hardly any reader can keep them.
 *
 * @param field for the error: path of the message with the payload in the request; '': the request
 */
export function decodePayload(payload: PayloadIn, field: string): { bytes: Uint8Array | null; encoding: Encoding } {
  const prefix = field === '' ? '' : `${field}.`;
  switch (payload.case) {
    case 'input':
      return jsonBytes(writeValue(payload.value, `${prefix}input`), `${prefix}input`);
    case 'inputJson':
      try {
        JSON.parse(payload.value);
      } catch (error) {
        throw notJson(`${prefix}input_json`, error);
      }
      return jsonBytes(payload.value, `${prefix}input_json`);
    case 'inputBytes':
      return { bytes: payload.value, encoding: 2 };
    default:
      return { bytes: null, encoding: 1 };
  }
}

function writeValue(value: Value, field: string): string {
  try {
    return JSON.stringify(toJson(ValueSchema, value));
  } catch (error) {
    // Infinity (curl's 1e400), NaN, a value of no kind.
    throw notJson(field, error);
  }
}

function jsonBytes(text: string, field: string): { bytes: Uint8Array; encoding: Encoding } {
  const place = unstorableAt(text, field);
  if (place !== null) throw refused(place, UNSTORABLE);
  return { bytes: encoder.encode(text), encoding: 1 };
}

const UNSTORABLE = 'a text contains NUL or a lone surrogate, which none may; send bytes instead';

function notJson(field: string, error: unknown): Refusal {
  return refused(field, `not JSON: ${(error as Error).message}`);
}

function refused(field: string, description: string): Refusal {
  return new Refusal('invalid_argument', 'INVALID_REQUEST', `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}

/** Readers of protobuf take messages 100 deep, and each level of a Value is two of them. */
const MAX_VALUE_DEPTH = 40;

type PayloadOut =
  | { case: 'value'; value: Value }
  | { case: 'json'; value: string }
  | { case: 'bytes'; value: Uint8Array }
  | { case: undefined };

/** A kept payload in the format that the reader asked for. */
function encodePayload(bytes: Uint8Array | null, encoding: number | null, format: PayloadFormat): PayloadOut {
  if (bytes === null || format === PayloadFormat.NONE) return { case: undefined };
  if (format === PayloadFormat.BYTES || encoding !== PayloadEncoding.JSON) return { case: 'bytes', value: bytes };
  const text = new TextDecoder().decode(bytes);
  if (format === PayloadFormat.TEXT || isDeeperThan(text, MAX_VALUE_DEPTH)) return { case: 'json', value: text };
  try {
    return { case: 'value', value: fromJson(ValueSchema, JSON.parse(text) as JsonValue) };
  } catch {
    // A worker may have called something JSON that is none: as it is.
    return { case: 'json', value: text };
  }
}

/** A kept input as the `input_payload` of a message. */
export function inputPayload(bytes: Uint8Array | null, encoding: number | null, format: PayloadFormat) {
  const payload = encodePayload(bytes, encoding, format);
  if (payload.case === 'value') return { case: 'input' as const, value: payload.value };
  if (payload.case === 'json') return { case: 'inputJson' as const, value: payload.value };
  if (payload.case === 'bytes') return { case: 'inputBytes' as const, value: payload.value };
  return { case: undefined };
}

/** A kept output as the `output_payload` of a message. */
export function outputPayload(bytes: Uint8Array | null, encoding: number | null, format: PayloadFormat) {
  const payload = encodePayload(bytes, encoding, format);
  if (payload.case === 'value') return { case: 'output' as const, value: payload.value };
  if (payload.case === 'json') return { case: 'outputJson' as const, value: payload.value };
  if (payload.case === 'bytes') return { case: 'outputBytes' as const, value: payload.value };
  return { case: undefined };
}
