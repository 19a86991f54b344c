import { checkAddress } from './address.ts';
import { describeValue, isRecord, ownValue, type UnknownRecord } from './json.ts';
import { MAX_NAME_LENGTH } from './model.ts';
import { at, type Place, type Problems, quote } from './problem.ts';

/** A value as an object, or a problem. */
export function readRecord(problems: Problems, place: Place, value: unknown, what: string): UnknownRecord | undefined {
  if (isRecord(value)) return value;
  problems.add(place, 'WRONG_TYPE', `${what} must be an object, not ${describeValue(value)}`);
  return undefined;
}

/** A value as text that is not blank, or a problem. */
export function readText(problems: Problems, place: Place, value: unknown, what: string): string | undefined {
  if (typeof value !== 'string') {
    const hint = typeof value === 'number' || typeof value === 'boolean' ? `put it in quotes: "${value}"` : undefined;
    problems.add(place, 'WRONG_TYPE', `${what} must be a string, not ${describeValue(value)}`, hint);
    return undefined;
  }
  if (value.trim() === '') {
    problems.add(place, 'EMPTY_FIELD', `${what} is empty`);
    return undefined;
  }
  return value;
}

/** A value as a name (of a node, a queue, a tag …), or a problem. Any text will do that a database can keep. */
export function readName(problems: Problems, place: Place, value: unknown, what: string): string | undefined {
  const text = readText(problems, place, value, what);
  if (text === undefined) return undefined;
  if (text.length > MAX_NAME_LENGTH) {
    problems.add(place, 'INVALID_NAME', `${what} has ${text.length} characters, ${MAX_NAME_LENGTH} is the most`);
    return undefined;
  }
  // Postgres keeps no NUL, UTF-8 no half of a surrogate pair; other control characters only confuse who reads them.
  if (/[\u0000-\u001f\u007f]/.test(text) || !text.isWellFormed()) {
    problems.add(place, 'INVALID_NAME', `${what} ${quote(text)} contains a control character or half a character`);
    return undefined;
  }
  return text;
}

/** A value as `host:port`, or a problem. */
export function readAddress(problems: Problems, place: Place, value: unknown, what: string): string | undefined {
  const text = readText(problems, place, value, what);
  if (text === undefined) return undefined;
  const check = checkAddress(text);
  if (check.ok) return text;
  problems.add(place, 'MALFORMED_ADDRESS', `${what} ${quote(text)} ${check.message}`, check.hint);
  return undefined;
}

/** The bounds of a number. A minimum that itself is not allowed is `above`. */
export interface Bounds {
  readonly min?: number;
  readonly above?: number;
  readonly max: number;
  readonly integer?: boolean;
}

/** The fields of one object of the file: each read once, each wrong one reported at its own place. */
export class Fields {
  readonly #problems: Problems;
  readonly #record: UnknownRecord;
  readonly place: Place;

  constructor(problems: Problems, place: Place, record: UnknownRecord) {
    this.#problems = problems;
    this.#record = record;
    this.place = place;
  }

  /** The place of a field, whether it is there or not. */
  at(key: string): Place {
    return at(this.place, key);
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /** The value as it came; undefined when absent. */
  raw(key: string): unknown {
    return ownValue(this.#record, key);
  }

  /** Whether a required field is there; a problem when it is not. */
  require(key: string): boolean {
    if (this.has(key)) return true;
    this.#problems.add(this.at(key), 'MISSING_FIELD', `the field ${quote(key)} is missing`);
    return false;
  }

  record(key: string): UnknownRecord | undefined {
    return this.has(key) ? readRecord(this.#problems, this.at(key), this.raw(key), quote(key)) : undefined;
  }

  text(key: string): string | undefined {
    return this.has(key) ? readText(this.#problems, this.at(key), this.raw(key), quote(key)) : undefined;
  }

  name(key: string): string | undefined {
    return this.has(key) ? readName(this.#problems, this.at(key), this.raw(key), quote(key)) : undefined;
  }

  requiredText(key: string): string | undefined {
    return this.require(key) ? this.text(key) : undefined;
  }

  requiredName(key: string): string | undefined {
    return this.require(key) ? this.name(key) : undefined;
  }

  requiredRecord(key: string): UnknownRecord | undefined {
    return this.require(key) ? this.record(key) : undefined;
  }

  /** A list of names, each with its place; items that are not names are reported and left out. */
  names(key: string): { readonly name: string; readonly place: Place }[] | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) {
      const hint = typeof value === 'string' ? `write it as a list: [${quote(value)}]` : undefined;
      const message = `${quote(key)} must be a list of strings, not ${describeValue(value)}`;
      this.#problems.add(this.at(key), 'WRONG_TYPE', message, hint);
      return undefined;
    }
    const names: { name: string; place: Place }[] = [];
    for (const [index, item] of (value as readonly unknown[]).entries()) {
      const place = at(this.place, key, index);
      const name = readName(this.#problems, place, item, `an item of ${quote(key)}`);
      if (name !== undefined) names.push({ name, place });
    }
    return names;
  }

  number(key: string, bounds: Bounds): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      const hint = typeof value === 'string' && /^[0-9.]+$/.test(value) ? `leave out the quotes: ${value}` : undefined;
      const message = `${quote(key)} must be a number, not ${describeValue(value)}`;
      this.#problems.add(this.at(key), 'WRONG_TYPE', message, hint);
      return undefined;
    }
    const { min, above, max, integer } = bounds;
    const fits =
      (min === undefined || value >= min) &&
      (above === undefined || value > above) &&
      value <= max &&
      (!integer || Number.isInteger(value));
    if (fits) return value;
    const lower = above === undefined ? `from ${min}` : `greater than ${above},`;
    const message = `${quote(key)} is ${value}; it must be ${integer ? 'a whole number' : 'a number'} ${lower} up to ${max}`;
    this.#problems.add(this.at(key), 'OUT_OF_RANGE', message);
    return undefined;
  }

  /** Reports every field that is not known here. */
  refuseUnknown(known: readonly string[]): void {
    for (const key of Object.keys(this.#record)) {
      if (known.includes(key)) continue;
      const hint = this.#problems.didYouMean(key, known) ?? `known here: ${known.join(', ')}`;
      this.#problems.add(at(this.place, key), 'UNKNOWN_FIELD', `there is no field ${quote(key)} here`, hint);
    }
  }
}

/** Seconds of a file in milliseconds, at least one. */
export function secondsToMs(seconds: number): number {
  return Math.max(1, Math.round(seconds * 1000));
}
