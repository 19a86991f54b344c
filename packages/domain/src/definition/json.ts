/** A value that JSON can say. Numbers are finite. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** An object of JSON. Read it with `ownValue`, for a key may be `__proto__` or `constructor`. */
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** A record as it came from outside: own enumerable string keys, values not yet looked at. */
export type UnknownRecord = Readonly<Record<string, unknown>>;

/** The deepest nesting of arrays and objects in a definition: protobuf's JSON readers stop soon after. */
export const MAX_JSON_DEPTH = 64;

/** The most values (of any kind, counted where they are used) in one definition. */
export const MAX_JSON_VALUES = 2_000_000;

/** Whether a value is an object that can stand for a JSON object (arrays, dates, maps and functions cannot). */
export function isRecord(value: unknown): value is UnknownRecord {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // An object of another realm (an iframe, a vm) has another Object.prototype, whose own prototype is null.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The value under a key of the object itself, never one that its prototype lends it. */
export function ownValue<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

/** Sets a key as data: `record['__proto__'] = value` would change the prototype instead. */
export function setOwnValue<T>(record: Record<string, T>, key: string, value: T): void {
  if (key === '__proto__') {
    Object.defineProperty(record, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    record[key] = value;
  }
}

/** Orders strings by UTF-16 code unit: the same everywhere, whatever the locale. */
export function compareCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A value that has no canonical JSON: not finite, not JSON at all, or containing itself. */
export class CanonicalJsonError extends Error {
  override readonly name = 'CanonicalJsonError';
}

interface Frame {
  readonly value: object;
  readonly keys: readonly string[] | undefined;
  readonly length: number;
  next: number;
  empty: boolean;
}

/**
 * The one text of a JSON value: keys in code-unit order, no white space, keys with an undefined value left out.
 * Equal values give equal text, so it can be hashed. Iterative: depth does not matter.
 *
 * @throws CanonicalJsonError for what JSON cannot say, rather than writing null in its place
 */
export function canonicalJson(value: unknown): string {
  const out: string[] = [];
  const stack: Frame[] = [];
  const open = new Set<object>();

  const write = (item: unknown): void => {
    if (item === null || typeof item === 'boolean' || typeof item === 'string') {
      out.push(JSON.stringify(item));
    } else if (typeof item === 'number' && Number.isFinite(item)) {
      out.push(JSON.stringify(item));
    } else if (Array.isArray(item) || isRecord(item)) {
      if (open.has(item)) throw new CanonicalJsonError('a value that contains itself has no JSON');
      open.add(item);
      const keys = Array.isArray(item) ? undefined : Object.keys(item).sort(compareCodeUnits);
      const length = keys ? keys.length : (item as readonly unknown[]).length;
      stack.push({ value: item, keys, length, next: 0, empty: true });
      out.push(keys ? '{' : '[');
    } else {
      throw new CanonicalJsonError(`${describeValue(item)} has no JSON`);
    }
  };

  write(value);
  for (let frame = stack.at(-1); frame; frame = stack.at(-1)) {
    if (frame.next === frame.length) {
      out.push(frame.keys ? '}' : ']');
      open.delete(frame.value);
      stack.pop();
      continue;
    }
    const index = frame.next++;
    const key = frame.keys?.[index];
    const item: unknown =
      key === undefined ? (frame.value as readonly unknown[])[index] : ownValue(frame.value as UnknownRecord, key);
    if (key !== undefined && item === undefined) continue;
    if (!frame.empty) out.push(',');
    frame.empty = false;
    if (key !== undefined) out.push(JSON.stringify(key), ':');
    write(item);
  }
  return out.join('');
}

/** What a value is, in words for a message: `a string`, `null`, `a list`, `an object`. */
export function describeValue(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'undefined';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') return Number.isFinite(value) ? 'a number' : String(value);
  if (typeof value === 'string') return 'a string';
  if (typeof value === 'boolean') return 'a boolean';
  if (isRecord(value)) return 'an object';
  return typeof value === 'object' ? 'an object that JSON does not know' : `a ${typeof value}`;
}
