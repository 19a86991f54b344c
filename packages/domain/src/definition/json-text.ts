import { type JsonValue, MAX_JSON_DEPTH, MAX_JSON_VALUES, setOwnValue } from './json.ts';
import { at, formatPlace, type Place, type Problem, type ProblemCode, plainWords, quote, ROOT } from './problem.ts';

/** The longest text of a definition, in UTF-16 code units. */
export const MAX_TEXT_LENGTH = 16 * 1024 * 1024;

/** The value that a text stands for, or what is wrong with the text. */
export type ParsedText =
  | { readonly ok: true; readonly value: JsonValue }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** A problem of the text at an offset in it: line and column are worked out and said. */
export function textProblem(
  text: string,
  offset: number,
  problem: { place: Place; code: ProblemCode; message: string; hint?: string | undefined },
): Problem {
  const before = text.slice(0, offset);
  const line = (before.match(/\r\n|\r|\n/g)?.length ?? 0) + 1;
  const column = offset - Math.max(before.lastIndexOf('\n'), before.lastIndexOf('\r'));
  const { place, code, hint } = problem;
  const message = plainWords(`line ${line}, column ${column}: ${problem.message}`);
  const found = { path: formatPlace(place), code, message, line, column };
  return hint === undefined ? found : { ...found, hint: plainWords(hint) };
}

/**
 * Reads JSON strictly, where `JSON.parse` would be silent: a key given twice and a whole number that would lose digits
 * are problems. `__proto__` is a key like any other. Iterative and bounded, so no text can exhaust the stack.
 * Reports the first error of syntax, with all problems before it.
 */
export function parseJsonText(text: string): ParsedText {
  return new JsonReader(text).read();
}

interface Frame {
  readonly list: JsonValue[] | undefined;
  readonly object: Record<string, JsonValue> | undefined;
  readonly place: Place;
  key: string;
}

/** Thrown inside this file only, to leave the loop at an error of syntax. */
class SyntaxFault {
  readonly problem: Problem;
  constructor(problem: Problem) {
    this.problem = problem;
  }
}

/** The most problems of a text that are reported. */
export const MAX_TEXT_PROBLEMS = 100;

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const WORD = /[A-Za-z0-9_$.+-]+/y;

class JsonReader {
  readonly #text: string;
  readonly #problems: Problem[] = [];
  readonly #stack: Frame[] = [];
  #at = 0;
  #count = 0;

  constructor(text: string) {
    this.#text = text;
    if (text.startsWith('\ufeff')) this.#at = 1;
  }

  read(): ParsedText {
    try {
      if (this.#text.length > MAX_TEXT_LENGTH) {
        this.#fail(`the text is longer than ${MAX_TEXT_LENGTH} characters`, undefined, 'TOO_LARGE', 0);
      }
      const value = this.#readAll();
      this.#skipSpace();
      if (this.#at < this.#text.length) this.#unexpected('the end of the text');
      return this.#problems.length === 0 ? { ok: true, value } : { ok: false, problems: this.#problems };
    } catch (fault) {
      if (!(fault instanceof SyntaxFault)) throw fault;
      return { ok: false, problems: [...this.#problems, fault.problem] };
    }
  }

  #readAll(): JsonValue {
    for (;;) {
      let done = this.#readValue();
      // A finished value goes into what holds it; that may finish in turn.
      while (done !== undefined) {
        const frame = this.#stack.at(-1);
        if (!frame) return done;
        if (frame.list) frame.list.push(done);
        else setOwnValue(frame.object!, frame.key, done);
        done = this.#readSeparator(frame);
      }
    }
  }

  /** A scalar or an empty list or object; undefined when one has been opened whose first value comes next. */
  #readValue(): JsonValue | undefined {
    this.#skipSpace();
    this.#count += 1;
    if (this.#count > MAX_JSON_VALUES) {
      this.#fail(`the text has more than ${MAX_JSON_VALUES} values`, undefined, 'TOO_LARGE');
    }
    const first = this.#text[this.#at];
    if (first === '{' || first === '[') return this.#open(first);
    if (first === '"') return this.#readString();
    if (first === '-' || (first !== undefined && first >= '0' && first <= '9')) return this.#readNumber();
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (this.#word() !== word) continue;
      this.#at += word.length;
      return value;
    }
    const comma = this.#text.slice(0, this.#at).trimEnd().endsWith(',');
    const isClosing = first === '}' || first === ']';
    return this.#unexpected('a value', isClosing && comma ? 'remove the comma before it' : undefined);
  }

  #open(bracket: '{' | '['): JsonValue | undefined {
    if (this.#stack.length === MAX_JSON_DEPTH) {
      this.#fail(`this is nested more than ${MAX_JSON_DEPTH} levels deep`, undefined, 'TOO_DEEP');
    }
    this.#at += 1;
    const isList = bracket === '[';
    const place = this.#place();
    const frame: Frame = { list: isList ? [] : undefined, object: isList ? undefined : {}, place, key: '' };
    this.#skipSpace();
    if (this.#text[this.#at] === (isList ? ']' : '}')) {
      this.#at += 1;
      return frame.list ?? frame.object;
    }
    this.#stack.push(frame);
    if (!isList) this.#readKey(frame);
    return undefined;
  }

  /** After a value: a comma, and undefined; or the end of what holds it, and that, finished. */
  #readSeparator(frame: Frame): JsonValue | undefined {
    this.#skipSpace();
    const close = frame.list ? ']' : '}';
    const next = this.#text[this.#at];
    if (next === close) {
      this.#at += 1;
      this.#stack.pop();
      return frame.list ?? frame.object;
    }
    if (next !== ',') this.#unexpected(`"," or "${close}"`);
    this.#at += 1;
    if (frame.object) this.#readKey(frame);
    return undefined;
  }

  #readKey(frame: Frame): void {
    this.#skipSpace();
    const start = this.#at;
    if (this.#text[start] !== '"') {
      const isEnd = this.#text[start] === '}';
      this.#unexpected('a key in double quotes', isEnd ? 'remove the comma before it' : undefined);
    }
    frame.key = this.#readString();
    if (Object.hasOwn(frame.object!, frame.key)) {
      const message = `the key ${quote(frame.key)} is given twice`;
      const place = at(frame.place, frame.key);
      this.#report({ place, code: 'DUPLICATE_KEY', message, hint: 'rename or remove one of them' }, start);
    }
    this.#skipSpace();
    if (this.#text[this.#at] !== ':') this.#unexpected('":"');
    this.#at += 1;
  }

  #readString(): string {
    const start = this.#at;
    let end = start + 1;
    for (;;) {
      const code = this.#text.charCodeAt(end);
      if (code === 0x22) break;
      // NaN: past the end.
      if (!(code >= 0x20)) this.#fail('a string is not closed on its line', undefined, 'SYNTAX_ERROR', start);
      end += code === 0x5c ? 2 : 1;
    }
    try {
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string;
      this.#at = end + 1;
      return value;
    } catch {
      return this.#fail('a string has a backslash that escapes nothing', 'write \\\\ for a backslash');
    }
  }

  #readNumber(): number {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text);
    if (!match || match[0] !== this.#word()) return this.#unexpected('a number');
    const [digits, fraction, exponent] = match;
    const value = Number(digits);
    const isWhole = fraction === undefined && exponent === undefined;
    if (!Number.isFinite(value) || (isWhole && !Number.isSafeInteger(value))) {
      const message = `the number ${quote(digits)} would lose digits`;
      this.#report({ place: this.#place(), code: 'INEXACT_NUMBER', message, hint: 'put it in quotes' }, this.#at);
    }
    this.#at += digits.length;
    return value;
  }

  /** The place of the value that is being read. */
  #place(): Place {
    const frame = this.#stack.at(-1);
    return frame ? at(frame.place, frame.list ? frame.list.length : frame.key) : ROOT;
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at += 1;
    }
  }

  #word(): string {
    WORD.lastIndex = this.#at;
    return WORD.exec(this.#text)?.[0] ?? '';
  }

  /** Notes a problem and reads on; after a hundred, whose lines all had to be counted, it is enough. */
  #report(problem: { place: Place; code: ProblemCode; message: string; hint: string }, offset: number): void {
    const found = textProblem(this.#text, offset, problem);
    if (this.#problems.length + 1 >= MAX_TEXT_PROBLEMS) throw new SyntaxFault(found);
    this.#problems.push(found);
  }

  #unexpected(expected: string, hint?: string): never {
    const next = this.#text.slice(this.#at, this.#at + 2);
    const found = this.#at >= this.#text.length ? 'the end of the text' : quote(this.#word() || next.slice(0, 1));
    const comment = next.startsWith('//') || next.startsWith('/*') || next.startsWith('#');
    const quoted = next.startsWith("'") ? 'use double quotes' : undefined;
    this.#fail(`expected ${expected}, found ${found}`, hint ?? (comment ? 'JSON has no comments' : quoted));
  }

  #fail(message: string, hint?: string, code: ProblemCode = 'SYNTAX_ERROR', offset = this.#at): never {
    const deepest = this.#stack.at(-1)?.place ?? ROOT;
    throw new SyntaxFault(textProblem(this.#text, offset, { place: deepest, code, message, hint }));
  }
}
