import type { FieldViolation } from '@baton/domain';
import {
  type DescField,
  type DescMessage,
  fromJson,
  fromJsonString,
  type JsonValue,
  ScalarType,
} from '@bufbuild/protobuf';

/** What is wrong with a message in JSON, and what is left of it. */
export interface JsonProblems {
  /** In the order of the text; of very many, the first. */
  readonly problems: FieldViolation[];
  /** The message without the fields that cannot be decoded; undefined: nothing can be, or there are too many problems. */
  readonly rest?: JsonValue;
}

/** More than a person reads. The list travels in a header of gRPC, too. */
const MAX_PROBLEMS = 50;
const MAX_SHOWN = 40;
/** As protobuf's own reader. */
const MAX_DEPTH = 100;

/** Values of a list or map that are tried together, so that a long one with few wrong values is read fast. */
const TRIED_TOGETHER = 256;

type JsonObject = { [name: string]: JsonValue };

/**
 * Why JSON text is no message of this type: everything that is wrong with it at once, where protobuf's reader stops at the first.
 * That reader stays the judge of each value: it is asked about each by itself. Null: the text can be decoded.
 */
export function jsonProblems(desc: DescMessage, text: string): JsonProblems | null {
  try {
    fromJsonString(desc, text);
    return null;
  } catch (error) {
    let json: JsonValue;
    try {
      json = JSON.parse(text);
    } catch (syntax) {
      return { problems: [{ field: '', description: `not JSON: ${(syntax as Error).message}` }] };
    }
    const search = new Search();
    const rest = search.message(desc, json, '', 0);
    const { problems } = search;
    // A key given twice is seen in the text alone.
    if (problems.length === 0) problems.push({ field: '', description: withoutPreamble(error) });
    return rest === undefined || search.isFull ? { problems } : { problems, rest };
  }
}

/** Walks over a message, and notes what is wrong. Each step returns what is left of the value; undefined: nothing. */
class Search {
  readonly problems: FieldViolation[] = [];

  get isFull(): boolean {
    return this.problems.length >= MAX_PROBLEMS;
  }

  #note(field: string, description: string): undefined {
    if (!this.isFull) this.problems.push({ field, description });
    return undefined;
  }

  message(desc: DescMessage, json: JsonValue, at: string, depth: number): JsonObject | undefined {
    if (this.isFull) return undefined;
    if (!isObject(json)) return this.#note(at, `must be an object, not ${shown(json)}`);
    if (depth > MAX_DEPTH) return this.#note(at, `nested deeper than ${MAX_DEPTH}`);
    if (depth > 0 && errorOf(desc, json) === undefined) return json;
    const rest: JsonObject = {};
    const chosen = new Map<string, string>();
    for (const [key, value] of Object.entries(json)) {
      const field = desc.fields.find((f) => f.jsonName === key || f.name === key);
      if (!field) {
        this.#note(inside(at, short(key)), `${desc.name} has no field "${short(key)}"`);
        continue;
      }
      if (field.oneof && value !== null) {
        const other = chosen.get(field.oneof.name);
        if (other !== undefined) {
          this.#note(inside(at, field.oneof.name), `${other} and ${key} exclude each other`);
          continue;
        }
        chosen.set(field.oneof.name, key);
      }
      const kept = this.#field(desc, field, value, inside(at, field.name), depth);
      if (kept !== undefined) rest[key] = kept;
    }
    return rest;
  }

  #field(desc: DescMessage, field: DescField, value: JsonValue, at: string, depth: number): JsonValue | undefined {
    const ask = (tried: JsonValue) => errorOf(desc, { [field.jsonName]: tried });
    const nested = nestedMessage(field);
    if (nested && field.fieldKind === 'message' && value !== null) return this.message(nested, value, at, depth + 1);
    if (nested && field.fieldKind === 'list' && Array.isArray(value))
      // Those that are wrong as a whole keep their place: others are named by theirs.
      return value.map((item, i) => this.message(nested, item, `${at}[${i}]`, depth + 1) ?? {});
    const error = ask(value);
    if (error === undefined) return value;
    if (field.fieldKind === 'list' && Array.isArray(value)) {
      const lists = value.map((item) => [item]);
      return this.#each(
        lists,
        (some) => ask(some.flat(1)),
        (i) => this.#note(`${at}[${i}]`, wrong(field, value[i]!, ask([value[i]!])!)),
      );
    }
    if (field.fieldKind === 'map' && isObject(value)) {
      const entries = Object.entries(value);
      return this.#each(
        entries,
        (some) => ask(Object.fromEntries(some)),
        (i) => {
          const [key, item] = entries[i]!;
          const place = `${at}[${JSON.stringify(short(key))}]`;
          if (nested) this.message(nested, item, place, depth + 1);
          else this.#note(place, wrong(field, item, ask({ [key]: item })!));
        },
      );
    }
    if (field.fieldKind === 'list') return this.#note(at, `must be a list, not ${shown(value)}`);
    if (field.fieldKind === 'map') return this.#note(at, `must be an object, not ${shown(value)}`);
    return this.#note(at, wrong(field, value, error));
  }

  /** Finds the items that are wrong. @param ask about some of them together */
  #each<T>(items: T[], ask: (some: T[]) => Error | undefined, found: (index: number) => void): undefined {
    for (let from = 0; from < items.length && !this.isFull; from += TRIED_TOGETHER) {
      const some = items.slice(from, from + TRIED_TOGETHER);
      if (ask(some) === undefined) continue;
      for (let i = 0; i < some.length && !this.isFull; i++) if (ask([some[i]!]) !== undefined) found(from + i);
    }
    return undefined;
  }
}

function inside(at: string, name: string): string {
  return at === '' ? name : `${at}.${name}`;
}

/** The message that a field holds, if it is one of fields; google.protobuf's own have forms of their own in JSON. */
function nestedMessage(field: DescField): DescMessage | undefined {
  const message =
    field.fieldKind === 'message' || field.fieldKind === 'list' || field.fieldKind === 'map'
      ? field.message
      : undefined;
  return message?.typeName.startsWith('google.protobuf.') ? undefined : message;
}

/** Why protobuf's reader takes this for no message of the type. */
function errorOf(desc: DescMessage, json: JsonValue): Error | undefined {
  try {
    fromJson(desc, json);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** What is wrong with a value, or with one of a list or map. */
function wrong(field: DescField, value: JsonValue, error: Error): string {
  // Protobuf takes no other text.
  if (field.scalar === ScalarType.STRING && typeof value === 'string')
    return 'contains a lone surrogate, which no text may';
  const form = formOf(field);
  return form === undefined ? withoutPreamble(error) : `must be ${form}, not ${shown(value)}`;
}

const INTEGERS: Partial<Record<ScalarType, string>> = {
  [ScalarType.INT32]: '-2147483648 to 2147483647',
  [ScalarType.SINT32]: '-2147483648 to 2147483647',
  [ScalarType.SFIXED32]: '-2147483648 to 2147483647',
  [ScalarType.UINT32]: '0 to 4294967295',
  [ScalarType.FIXED32]: '0 to 4294967295',
  [ScalarType.INT64]: '-9223372036854775808 to 9223372036854775807',
  [ScalarType.SINT64]: '-9223372036854775808 to 9223372036854775807',
  [ScalarType.SFIXED64]: '-9223372036854775808 to 9223372036854775807',
  [ScalarType.UINT64]: '0 to 18446744073709551615',
  [ScalarType.FIXED64]: '0 to 18446744073709551615',
};

/** What a field takes, in words; undefined: protobuf says it better. */
function formOf(field: DescField): string | undefined {
  if (field.enum) return `one of ${field.enum.values.map((v) => v.name).join(', ')}`;
  if (field.message?.typeName === 'google.protobuf.Duration') return 'a duration in seconds such as "1.5s"';
  if (field.message?.typeName === 'google.protobuf.Timestamp') return 'a time such as "2026-01-31T12:00:00Z"';
  switch (field.scalar) {
    case undefined:
      return undefined;
    case ScalarType.STRING:
      return 'a text';
    case ScalarType.BOOL:
      return 'true or false';
    case ScalarType.BYTES:
      return 'bytes in base64';
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return 'a number';
    default:
      return `a whole number from ${INTEGERS[field.scalar]}`;
  }
}

/** Protobuf's reason without its "cannot decode … from JSON: ". */
function withoutPreamble(error: unknown): string {
  return (error as Error).message.replace(/^cannot decode .*? from JSON: /, '');
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shown(value: JsonValue): string {
  if (Array.isArray(value)) return 'a list';
  if (isObject(value)) return 'an object';
  return short(JSON.stringify(value));
}

function short(text: string): string {
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}
