import { usageError } from './exit.ts';

/** An input as it is to be sent: JSON text byte for byte. Undefined sends none. */
export type InputText = { readonly json: string } | undefined;

/** JSON text, or key=value pairs, or nothing. */
export function inputOf(inputs: readonly string[] | undefined): InputText {
  if (inputs === undefined || inputs.length === 0) return undefined;
  const [first] = inputs;
  if (inputs.length === 1 && first !== undefined) {
    // `a=1` is no JSON, and what begins like JSON is meant as JSON.
    if (isJson(first)) return { json: first };
    if (/^\s*[[{"]/.test(first)) return inputOfJson(first);
  }
  return { json: JSON.stringify(objectOfPairs(inputs)) };
}

export function inputOfJson(text: string): InputText {
  try {
    JSON.parse(text);
    return { json: text };
  } catch (error) {
    throw usageError(`the input is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** `k=v` pairs as an object. A value that is JSON is that; anything else is a text. A repeated key is refused. */
export function objectOfPairs(pairs: readonly string[]): Record<string, unknown> {
  const entries = new Map<string, unknown>();
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    if (equals < 1) throw usageError(`"${pair}" is not key=value`);
    const key = pair.slice(0, equals);
    if (entries.has(key)) throw usageError(`the key "${key}" is given twice`);
    entries.set(key, fieldValue(pair.slice(equals + 1)));
  }
  // fromEntries defines keys: `__proto__` is one like any other.
  return Object.fromEntries(entries);
}

function fieldValue(text: string): unknown {
  if (!isJson(text)) return text;
  const value: unknown = JSON.parse(text);
  // A number that would lose digits, or its leading plus or zeros, is better kept as it was typed.
  return typeof value === 'number' && String(value) !== text ? text : value;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
