import { isRecord, ownValue, type UnknownRecord } from './json.ts';

/** A text that is no stored definition, or one of a version that this code cannot read. */
export class StoredFormError extends Error {
  override readonly name = 'StoredFormError';
}

export function present(record: UnknownRecord, key: string): unknown {
  const value = ownValue(record, key);
  if (value === undefined) throw new StoredFormError(`a stored definition lacks "${key}"`);
  return value;
}

export function object(value: unknown, what: string): UnknownRecord {
  if (!isRecord(value)) throw new StoredFormError(`${what} in a stored definition is not an object`);
  return value;
}

export function list(record: UnknownRecord, key: string): readonly unknown[] {
  const value = present(record, key);
  if (!Array.isArray(value)) throw new StoredFormError(`"${key}" in a stored definition is not a list`);
  return value;
}

export function string(record: UnknownRecord, key: string): string {
  const value = present(record, key);
  if (typeof value !== 'string') throw new StoredFormError(`"${key}" in a stored definition is not a string`);
  return value;
}

export function strings(record: UnknownRecord, key: string): string[] {
  return list(record, key).map((item) => {
    if (typeof item !== 'string') throw new StoredFormError(`"${key}" in a stored definition holds no strings`);
    return item;
  });
}

export function number(record: UnknownRecord, key: string): number {
  const value = present(record, key);
  if (typeof value !== 'number') throw new StoredFormError(`"${key}" in a stored definition is not a number`);
  return value;
}

/** A field that is one of these words. */
export function word<Word extends string>(record: UnknownRecord, key: string, words: readonly Word[]): Word {
  const value = present(record, key);
  const known = words.find((candidate) => candidate === value);
  if (known === undefined) throw new StoredFormError(`"${key}" in a stored definition is ${String(value)}`);
  return known;
}
