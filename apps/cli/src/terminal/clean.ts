import { stripVTControlCharacters } from 'node:util';

// What servers, files and other users say must not move the cursor, recolour or rewrite the terminal: control
// characters (C0, DEL, C1) and those that turn the direction of a line.
const BLANKS = /[\t\n\v\f\r\u0085\u2028\u2029]+/g;
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text as one harmless line: escape sequences and control characters are gone, line ends and tabs are blanks. */
export function cleanLine(text: string): string {
  return stripVTControlCharacters(text.toWellFormed()).replace(BLANKS, ' ').replace(UNSAFE, '');
}

/** A text as harmless lines. A carriage return alone ends a line too: it would let the rest overwrite it. */
export function cleanLines(text: string): string[] {
  return text.split(/\r\n|[\n\r\u0085\u2028\u2029]/).map(cleanLine);
}

const UNSAFE_IN_JSON = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** JSON whose strings are harmless on a terminal too; it means the same. */
export function cleanJson(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, jsonReplacer, indent) ?? 'null';
  return text.replace(UNSAFE_IN_JSON, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Bytes are shown as base64, for JSON has no other way. */
function jsonReplacer(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array ? { base64: Buffer.from(value).toString('base64') } : value;
}
