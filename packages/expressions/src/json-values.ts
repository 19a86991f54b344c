import { ExpressionError, type JsonObject, type JsonValue, MAX_JSON_DEPTH, ownValue, setOwnValue } from '@baton/domain';
import { type CelList, type CelMap, type CelValue, isCelList, isCelMap, isCelUint } from '@bufbuild/cel';
import { toJson } from '@bufbuild/protobuf';
import { isReflectMessage } from '@bufbuild/protobuf/reflect';
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import type { Meter } from './meter.ts';

/*
 * JSON as CEL sees it. Nothing is converted before it is looked at: an expression over an output of 100 000 items that
 * names one of them costs one. CEL's own lists and maps would convert numbers wrongly (each would be floating point) and
 * go through huge values uncounted, so these stand in for them, known to it by the same symbols.
 */
const LIST = Symbol.for('@bufbuild/cel/list');
const MAP = Symbol.for('@bufbuild/cel/map');

/** A JSON value for CEL: whole numbers that are exact become integers. */
export function toCelValue(value: JsonValue, meter: Meter): CelValue {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return new JsonList(value, meter) as unknown as CelList;
  return new JsonMap(value as JsonObject, meter) as unknown as CelMap;
}

/** A list of JSON. */
export class JsonList {
  readonly [LIST] = {};
  readonly json: readonly JsonValue[];
  readonly #meter: Meter;

  constructor(json: readonly JsonValue[], meter: Meter) {
    this.json = json;
    this.#meter = meter;
  }

  get size(): number {
    return this.json.length;
  }

  get(index: number): CelValue | undefined {
    const item = Number.isInteger(index) ? this.json[index] : undefined;
    return item === undefined ? undefined : toCelValue(item, this.#meter);
  }

  *values(): IterableIterator<CelValue> {
    for (const item of this.json) {
      this.#meter.charge(1);
      yield toCelValue(item, this.#meter);
    }
  }

  [Symbol.iterator](): IterableIterator<CelValue> {
    return this.values();
  }
}

/** What a map looks up: an object of JSON, or the nodes of a run. */
interface Lookup {
  readonly size: number;
  keys(): Iterable<string>;
  get(key: string): JsonValue | undefined;
}

abstract class StringMap {
  readonly [MAP] = {};
  readonly #meter: Meter;

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  protected abstract lookup(): Lookup;

  get size(): number {
    return this.lookup().size;
  }

  get(key: unknown): CelValue | undefined {
    const value = typeof key === 'string' ? this.lookup().get(key) : undefined;
    return value === undefined ? undefined : toCelValue(value, this.#meter);
  }

  has(key: unknown): boolean {
    return typeof key === 'string' && this.lookup().get(key) !== undefined;
  }

  *keys(): IterableIterator<string> {
    for (const key of this.lookup().keys()) {
      this.#meter.charge(1);
      yield key;
    }
  }

  *entries(): IterableIterator<[string, CelValue]> {
    for (const key of this.keys()) yield [key, this.get(key)!];
  }

  *values(): IterableIterator<CelValue> {
    for (const key of this.keys()) yield this.get(key)!;
  }

  forEach(callback: (value: CelValue, key: string, map: unknown) => void): void {
    for (const [key, value] of this.entries()) callback(value, key, this);
  }

  [Symbol.iterator](): IterableIterator<[string, CelValue]> {
    return this.entries();
  }
}

/** An object of JSON. */
export class JsonMap extends StringMap {
  readonly json: JsonObject;

  constructor(json: JsonObject, meter: Meter) {
    super(meter);
    this.json = json;
  }

  protected override lookup(): Lookup {
    const { json } = this;
    return {
      get size() {
        return Object.keys(json).length;
      },
      keys: () => Object.keys(json),
      get: (key) => ownValue(json, key),
    };
  }
}

/** Objects by name that are not gathered in one object of JSON. */
export class LookupMap extends StringMap {
  readonly #entries: ReadonlyMap<string, unknown>;

  constructor(entries: ReadonlyMap<string, unknown>, meter: Meter) {
    super(meter);
    this.#entries = entries;
  }

  protected override lookup(): Lookup {
    return this.#entries as ReadonlyMap<string, JsonValue>;
  }
}

/**
 * A list that CEL has put together. `map` and `filter` add item by item: while nobody else has added to the same
 * beginning, the items are shared with it, so that n items cost n and not n².
 */
export class GrownList {
  readonly [LIST] = {};
  readonly #items: CelValue[];
  readonly size: number;
  readonly #meter: Meter;

  private constructor(items: CelValue[], meter: Meter) {
    this.#items = items;
    this.size = items.length;
    this.#meter = meter;
  }

  static concat(left: CelList, right: CelList, meter: Meter): CelList {
    const own = (left as unknown) instanceof GrownList ? (left as unknown as GrownList) : undefined;
    let items: CelValue[];
    if (own && own.#items.length === own.size) {
      items = own.#items;
    } else {
      meter.charge(left.size);
      items = [...left];
    }
    const before = items.length;
    // Taken before it grows: the right side may be the left one.
    const added = right.size === 1 ? [right.get(0)!] : [...right];
    meter.charge(added.length);
    for (const item of added) items.push(item);
    const grown = new GrownList(items, meter);
    if (grown.size !== before + right.size) meter.stop('a list has changed while it grew');
    return grown as unknown as CelList;
  }

  get(index: number): CelValue | undefined {
    return Number.isInteger(index) && index >= 0 && index < this.size ? this.#items[index] : undefined;
  }

  *values(): IterableIterator<CelValue> {
    for (let index = 0; index < this.size; index++) {
      this.#meter.charge(1);
      yield this.#items[index]!;
    }
  }

  [Symbol.iterator](): IterableIterator<CelValue> {
    return this.values();
  }
}

/**
 * A value of CEL as JSON. Parts that came from JSON are shared, not copied.
 *
 * @throws ExpressionError for what JSON cannot say exactly
 */
export function toJsonValue(value: CelValue, meter: Meter, depth = 0): JsonValue {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return wholeNumber(value);
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value;
    throw new ExpressionError(`its value is ${value}, which JSON cannot say`);
  }
  if (isCelUint(value)) return wholeNumber(value.value);
  const own: unknown = value;
  if (own instanceof JsonList || own instanceof JsonMap) return own.json;
  if (depth === MAX_JSON_DEPTH)
    throw new ExpressionError(`its value is nested more than ${MAX_JSON_DEPTH} levels deep`);
  meter.charge(1);
  if (isCelList(value)) {
    const list: JsonValue[] = [];
    for (const item of value) {
      meter.charge(1);
      list.push(toJsonValue(item, meter, depth + 1));
    }
    return list;
  }
  if (isCelMap(value)) {
    const object: Record<string, JsonValue> = {};
    for (const [key, item] of value) {
      meter.charge(1);
      const name = isCelUint(key) ? String(key.value) : String(key);
      if (Object.hasOwn(object, name)) throw new ExpressionError(`its value has the key ${JSON.stringify(name)} twice`);
      setOwnValue(object, name, toJsonValue(item, meter, depth + 1));
    }
    return object;
  }
  if (isReflectMessage(value, TimestampSchema)) return toJson(TimestampSchema, value.message as Timestamp);
  if (isReflectMessage(value, DurationSchema)) return toJson(DurationSchema, value.message as Duration);
  if (value instanceof Uint8Array) throw new ExpressionError('its value is bytes, which JSON cannot say');
  throw new ExpressionError('its value is a type, which JSON cannot say');
}

function wholeNumber(value: bigint): number {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  throw new ExpressionError(`its value is ${value}, a whole number that JSON cannot hold exactly`);
}
