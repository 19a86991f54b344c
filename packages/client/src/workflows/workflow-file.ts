import {
  FILE_ROOT,
  type FilePlace,
  type JsonValue,
  MAX_JSON_DEPTH,
  MAX_JSON_VALUES,
  MAX_TEXT_LENGTH,
  MAX_TEXT_PROBLEMS,
  type ParsedDefinition,
  type ParsedText,
  type Problem,
  type ProblemCode,
  parseDefinition,
  parseJsonText,
  placeBelow,
  quoteText,
  setOwnValue,
  textProblem,
} from '@baton/domain';
import { createExpressions } from '@baton/expressions';
import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  type Pair,
  Parser,
  type Scalar,
} from 'yaml';

export { workflowSchema } from './workflow-schema.ts';

/** How a workflow file is written. */
export type WorkflowFileFormat = 'json' | 'yaml';

/** How to read a workflow file. */
export interface WorkflowFileOptions {
  /** Default: by the ending of `fileName`; without one, JSON when the text begins with a brace, else YAML. */
  readonly format?: WorkflowFileFormat;
  /** Used for its ending only: `.json`, `.yaml`, `.yml`. */
  readonly fileName?: string;
}

/**
 * Reads the text of a workflow file into a plain value, for `parseDefinition`. Nothing is decided silently: a key given
 * twice, a number that would lose digits, a tag, a merge key or a second document is a problem, with line and column.
 * `__proto__` is a key like any other. Bounded in length, depth and values, aliases counted where they are used, so
 * that a small file cannot stand for a huge value.
 */
export function parseWorkflowFile(text: string, options: WorkflowFileOptions = {}): ParsedText {
  return formatOf(text, options) === 'json' ? parseJsonText(text) : parseYaml(text);
}

const expressions = createExpressions();

/** A workflow file that is sound, as the plain value that `workflows.apply` takes; or everything that is wrong with it. */
export type CheckedWorkflowFile =
  | { readonly ok: true; readonly value: JsonValue; readonly definition: CheckedDefinition }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** The normal form: every default filled in, nodes in an order in which they could run. */
export type CheckedDefinition = Extract<ParsedDefinition, { ok: true }>['definition'];

/** Reads the text of a workflow file and checks it as a master would, its expressions too, without asking one. */
export function checkWorkflowFile(text: string, options: WorkflowFileOptions = {}): CheckedWorkflowFile {
  const parsed = parseWorkflowFile(text, options);
  return parsed.ok ? checkWorkflow(parsed.value) : parsed;
}

/** Checks a workflow that was read or built, as a master would. */
export function checkWorkflow(value: unknown): CheckedWorkflowFile {
  const checked = parseDefinition(value, expressions);
  // What is sound is an object of JSON.
  return checked.ok ? { ...checked, value: value as JsonValue } : checked;
}

function formatOf(text: string, { format, fileName = '' }: WorkflowFileOptions): WorkflowFileFormat {
  if (format) return format;
  if (/\.json$/i.test(fileName)) return 'json';
  if (/\.ya?ml$/i.test(fileName)) return 'yaml';
  return /^[\ufeff\s]*\{/.test(text) ? 'json' : 'yaml';
}

function parseYaml(text: string): ParsedText {
  const fail = (code: ProblemCode, message: string): ParsedText => {
    return { ok: false, problems: [textProblem(text, 0, { place: FILE_ROOT, code, message })] };
  };
  if (text.length > MAX_TEXT_LENGTH) return fail('TOO_LARGE', `the text is longer than ${MAX_TEXT_LENGTH} characters`);
  const documents = composeDocuments(text);
  if ('tooDeepAt' in documents) {
    const message = `this is nested more than ${MAX_JSON_DEPTH} levels deep`;
    return {
      ok: false,
      problems: [textProblem(text, documents.tooDeepAt, { place: FILE_ROOT, code: 'TOO_DEEP', message })],
    };
  }
  const [document, second] = documents;
  if (!document?.contents) return fail('EMPTY_FIELD', 'the file is empty');
  // A tag that is not known is only a warning there, but would leave a string where something else was meant.
  const faults = [document, second].flatMap((part) => (part ? [...part.errors, ...part.warnings] : []));
  if (faults.length > 0) {
    const problems = faults.slice(0, MAX_TEXT_PROBLEMS).map(({ pos, message }): Problem => {
      return textProblem(text, pos[0], { place: FILE_ROOT, code: 'SYNTAX_ERROR', message: message.replace(/\.$/, '') });
    });
    return { ok: false, problems };
  }
  if (second) {
    const message = 'a second document begins; a file holds one workflow';
    const offset = second.contents?.range?.[0] ?? second.range?.[0] ?? 0;
    return {
      ok: false,
      problems: [textProblem(text, offset, { place: FILE_ROOT, code: 'UNSUPPORTED_YAML', message })],
    };
  }
  return new YamlReader(text).read(document.contents);
}

/**
 * The first two documents of a text. What `parseAllDocuments` does, but step by step, because that composes by
 * recursion: its parser is asked after each word how deep it is, before a text of brackets can exhaust the stack.
 */
function composeDocuments(text: string): Document[] | { readonly tooDeepAt: number } {
  const parser = new Parser();
  const tokens: CST.Token[] = [];
  for (const lexeme of new Lexer().lex(text)) {
    tokens.push(...parser.next(lexeme));
    // On its stack are the document, the collections that are open, and the scalar being read.
    if (parser.stack.length > MAX_JSON_DEPTH + 3) return { tooDeepAt: parser.offset };
  }
  tokens.push(...parser.end());
  // Unique keys, aliases and anchors are checked by the reader below, in linear time.
  const composer = new Composer({ intAsBigInt: true, prettyErrors: false, uniqueKeys: false, merge: false });
  const documents: Document[] = [];
  for (const document of composer.compose(tokens, true, text.length)) {
    if (documents.push(document) === 2) break;
  }
  return documents;
}

/** A value that has been read, with what it costs to write it out in full. */
interface ReadValue {
  readonly value: JsonValue;
  /** Values in it, itself included, aliases written out. */
  readonly count: number;
  /** Levels of lists and objects. */
  readonly height: number;
}

/** Thrown inside this file only, when reading on makes no sense. */
class Stop {}

class YamlReader {
  readonly #text: string;
  readonly #problems: Problem[] = [];
  /** By anchor, what it stands for; null while that is still being read. */
  readonly #anchors = new Map<string, ReadValue | null>();

  constructor(text: string) {
    this.#text = text;
  }

  read(contents: unknown): ParsedText {
    try {
      const { value } = this.#node(contents, FILE_ROOT, 0);
      return this.#problems.length === 0 ? { ok: true, value } : { ok: false, problems: this.#problems };
    } catch (stop) {
      if (!(stop instanceof Stop)) throw stop;
      return { ok: false, problems: this.#problems };
    }
  }

  #node(node: unknown, place: FilePlace, depth: number): ReadValue {
    if (isAlias(node)) return this.#alias(node.source, node, place, depth);
    const anchor = isMap(node) || isSeq(node) || isScalar(node) ? node.anchor : undefined;
    if (anchor !== undefined) this.#anchors.set(anchor, null);
    const read = this.#content(node, place, depth);
    if (read.count > MAX_JSON_VALUES) {
      this.#stop(node, place, 'TOO_LARGE', `the text stands for more than ${MAX_JSON_VALUES} values`);
    }
    if (anchor !== undefined) this.#anchors.set(anchor, read);
    return read;
  }

  #alias(name: string, node: unknown, place: FilePlace, depth: number): ReadValue {
    const target = this.#anchors.get(name);
    if (target) {
      this.#checkDepth(node, place, depth + target.height);
      return target;
    }
    const message =
      target === null
        ? `the alias *${name} stands inside what it stands for`
        : `there is no anchor &${name} before here`;
    this.#report(node, place, 'UNKNOWN_ALIAS', message);
    return { value: null, count: 1, height: 0 };
  }

  #content(node: unknown, place: FilePlace, depth: number): ReadValue {
    if (isMap(node)) {
      this.#checkDepth(node, place, depth + 1);
      const object: Record<string, JsonValue> = {};
      let [count, height] = [1, 0];
      for (const pair of node.items) {
        const key = this.#key(pair, place);
        if (key === undefined) continue;
        if (Object.hasOwn(object, key)) {
          const message = `the key ${quoteText(key)} is given twice`;
          this.#report(pair.key, placeBelow(place, key), 'DUPLICATE_KEY', message, 'rename or remove one of them');
        }
        const read = this.#node(pair.value, placeBelow(place, key), depth + 1);
        setOwnValue(object, key, read.value);
        count += read.count;
        height = Math.max(height, read.height);
      }
      return { value: object, count, height: height + 1 };
    }
    if (isSeq(node)) {
      this.#checkDepth(node, place, depth + 1);
      const list: JsonValue[] = [];
      let [count, height] = [1, 0];
      for (const [index, item] of node.items.entries()) {
        const read = this.#node(item, placeBelow(place, index), depth + 1);
        list.push(read.value);
        count += read.count;
        height = Math.max(height, read.height);
      }
      return { value: list, count, height: height + 1 };
    }
    return { value: isScalar(node) ? this.#scalar(node, place) : null, count: 1, height: 0 };
  }

  /** The key of a pair as it is written, so that `01` and `yes` stay what they are. */
  #key(pair: Pair, place: FilePlace): string | undefined {
    const { key } = pair;
    if (!isScalar(key)) {
      const message = 'a key is not a plain text';
      this.#report(
        key ?? pair.value,
        place,
        'UNSUPPORTED_YAML',
        message,
        'write the key as text, in quotes if need be',
      );
      return undefined;
    }
    if (key.type === 'PLAIN' && key.source === '<<') {
      const hint = 'repeat the fields, or use "defaults"';
      this.#report(key, place, 'UNSUPPORTED_YAML', 'merge keys (<<) are not supported', hint);
      return undefined;
    }
    if (key.anchor !== undefined) {
      this.#anchors.set(key.anchor, { value: this.#scalar(key, place), count: 1, height: 0 });
    }
    if (typeof key.value === 'string') return key.value;
    if (!key.source) {
      this.#report(
        key,
        place,
        'UNSUPPORTED_YAML',
        'a key is empty',
        'write the key, "" in quotes if it is to be empty',
      );
      return undefined;
    }
    return key.source;
  }

  #scalar(node: Scalar, place: FilePlace): JsonValue {
    const { value } = node;
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
    if (typeof value === 'bigint' || typeof value === 'number') {
      const number = Number(value);
      if (typeof value === 'bigint' ? Number.isSafeInteger(number) : Number.isFinite(number)) return number;
      const message = `the number ${quoteText(node.source ?? String(value))} is none that JSON can hold exactly`;
      this.#report(node, place, 'INEXACT_NUMBER', message, 'put it in quotes');
      return null;
    }
    this.#report(node, place, 'UNSUPPORTED_YAML', 'this kind of value is not supported', 'write it as text');
    return null;
  }

  #checkDepth(node: unknown, place: FilePlace, depth: number): void {
    if (depth > MAX_JSON_DEPTH) {
      this.#stop(node, place, 'TOO_DEEP', `this is nested more than ${MAX_JSON_DEPTH} levels deep`);
    }
  }

  #stop(node: unknown, place: FilePlace, code: ProblemCode, message: string): never {
    this.#report(node, place, code, message);
    throw new Stop();
  }

  #report(node: unknown, place: FilePlace, code: ProblemCode, message: string, hint?: string): void {
    const range = typeof node === 'object' && node !== null && 'range' in node ? node.range : undefined;
    const offset = Array.isArray(range) ? Number(range[0]) : 0;
    this.#problems.push(textProblem(this.#text, offset, { place, code, message, hint }));
    if (this.#problems.length === MAX_TEXT_PROBLEMS) throw new Stop();
  }
}
