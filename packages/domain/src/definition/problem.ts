/** What can be wrong with a definition. The words are stable: programs may compare them. */
export type ProblemCode =
  // the text of the file
  | 'SYNTAX_ERROR'
  | 'DUPLICATE_KEY'
  | 'INEXACT_NUMBER'
  | 'UNSUPPORTED_YAML'
  | 'UNKNOWN_ALIAS'
  // the file as a whole
  | 'UNKNOWN_FORM'
  | 'AMBIGUOUS_FORM'
  | 'TOO_DEEP'
  | 'TOO_LARGE'
  | 'TOO_MANY_NODES'
  | 'MORE_PROBLEMS'
  | 'TOO_MANY_EDGES'
  // one field
  | 'WRONG_TYPE'
  | 'MISSING_FIELD'
  | 'EMPTY_FIELD'
  | 'UNKNOWN_FIELD'
  | 'OUT_OF_RANGE'
  | 'INVALID_NAME'
  | 'NOT_JSON'
  | 'UNKNOWN_EXECUTION_MODE'
  | 'UNKNOWN_TASK_CLASS'
  | 'DUPLICATE_TAG'
  | 'UNKNOWN_VALUE'
  | 'UNKNOWN_NODE_TYPE'
  | 'UNKNOWN_EDGE_TYPE'
  | 'TWO_FAN_OUTS'
  | 'TOO_MANY_ITEMS'
  // names and addresses
  | 'ID_MISMATCH'
  | 'DUPLICATE_ID'
  | 'MISSING_ADDRESS'
  | 'MALFORMED_ADDRESS'
  | 'MALFORMED_METHOD'
  | 'UNKNOWN_SERVICE'
  | 'NO_EXECUTOR'
  | 'TWO_EXECUTORS'
  | 'TWO_ADDRESSES'
  // the graph
  | 'NO_NODES'
  | 'UNKNOWN_START_NODE'
  | 'UNKNOWN_NEXT_NODE'
  | 'UNREACHABLE_NODE'
  | 'UNKNOWN_NEED'
  | 'DUPLICATE_NEED'
  | 'SELF_EDGE'
  | 'CYCLE'
  | 'WORKFLOW_CYCLE'
  // references and expressions
  | 'MALFORMED_REFERENCE'
  | 'UNKNOWN_REFERENCE'
  | 'REFERENCE_NOT_UPSTREAM'
  | 'MALFORMED_EXPRESSION'
  | 'EXPRESSION_NOT_UPSTREAM';

/** One thing that is wrong with a definition. */
export interface Problem {
  /** Where, as a path in the file: `containers["a b"].next_node`, `nodes[2].needs[0]`; `$` is the file itself. */
  readonly path: string;
  readonly code: ProblemCode;
  /** What is wrong, in a sentence that names the values. */
  readonly message: string;
  /** What to do about it, where that can be said. */
  readonly hint?: string;
  /** Where in the text, from 1, when the text itself is wrong (its message says so too). */
  readonly line?: number;
  readonly column?: number;
}

/** A place in the file. A linked list, so that going down costs nothing and text is made only for a problem. */
export interface Place {
  readonly parent: Place | undefined;
  readonly key: string | number;
}

/** The file itself. */
export const ROOT: Place = { parent: undefined, key: '$' };

/** The place of a field or of an item below another. */
export function at(parent: Place, ...keys: readonly (string | number)[]): Place {
  let place = parent;
  for (const key of keys) place = { parent: place, key };
  return place;
}

const PLAIN_KEY = /^\$?[A-Za-z_][A-Za-z0-9_]*$/;

/** The path of a place as people read it. */
export function formatPlace(place: Place): string {
  const keys: (string | number)[] = [];
  for (let here: Place | undefined = place; here?.parent; here = here.parent) keys.push(here.key);
  let path = '';
  for (const key of keys.reverse()) {
    if (typeof key === 'number') path += `[${key}]`;
    else if (PLAIN_KEY.test(key)) path += path === '' ? key : `.${key}`;
    else path += `[${quote(key)}]`;
  }
  return path === '' ? '$' : path;
}

const LONGEST_QUOTE = 120;
// Control and direction characters in a name would let a file write over the terminal that shows its problems.
const UNSAFE = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A text between quotes with everything unprintable escaped; long ones are cut. */
export function quote(text: string): string {
  const short = text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text;
  return JSON.stringify(short).replace(
    UNSAFE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

// The same in the words around it, where a text of the file got into them. Lone surrogates are no text that could be sent.
const UNSPEAKABLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** A sentence that a terminal can show and a message can carry. */
export function plainWords(text: string): string {
  return text.replace(UNSPEAKABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

const MAX_PROBLEMS = 10_000;

/** Collects problems in the order in which they are found. */
export class Problems {
  readonly #found: Problem[] = [];
  readonly #suggestions = new Suggestions();
  #unlisted = 0;

  get isEmpty(): boolean {
    return this.#found.length === 0;
  }

  /** All of them; beyond 10 000, which no person reads and no message carries, the last says how many more. */
  get list(): Problem[] {
    if (this.#unlisted === 0) return [...this.#found];
    return [...this.#found, { path: '$', code: 'MORE_PROBLEMS', message: `and ${this.#unlisted} more problems` }];
  }

  add(place: Place, code: ProblemCode, message: string, hint?: string): void {
    if (this.#found.length === MAX_PROBLEMS) {
      this.#unlisted += 1;
      return;
    }
    const found = { path: formatPlace(place), code, message: plainWords(message) };
    this.#found.push(hint === undefined ? found : { ...found, hint: plainWords(hint) });
  }

  /** `did you mean "x"?` for the closest candidate, or undefined when none is close. */
  didYouMean(name: string, candidates: Iterable<string>): string | undefined {
    const closest = this.#suggestions.closest(name, candidates);
    return closest === undefined ? undefined : `did you mean ${quote(closest)}?`;
  }
}

/** `did you mean "x"?` for the closest of a few candidates, or undefined when none is close. */
export function didYouMean(name: string, candidates: Iterable<string>): string | undefined {
  const closest = new Suggestions().closest(name, candidates);
  return closest === undefined ? undefined : `did you mean ${quote(closest)}?`;
}

const LONGEST_COMPARED = 64;

/** Finds near names. It has a budget: 10 000 wrong names against 10 000 right ones must not cost seconds. */
class Suggestions {
  #comparisonsLeft = 20_000;

  closest(name: string, candidates: Iterable<string>): string | undefined {
    if (name === '' || name.length > LONGEST_COMPARED) return undefined;
    const folded = name.toLowerCase().replaceAll('-', '_');
    let best: string | undefined;
    let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
    for (const candidate of candidates) {
      if (this.#comparisonsLeft-- <= 0) return undefined;
      if (Math.abs(candidate.length - name.length) >= bestDistance || candidate.length > LONGEST_COMPARED) continue;
      const distance = editDistance(folded, candidate.toLowerCase().replaceAll('-', '_'));
      if (distance < bestDistance) {
        best = candidate;
        bestDistance = distance;
      }
    }
    return best;
  }
}

/** Edits (insert, delete, replace, swap two neighbours) between two short texts. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1));
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (swapped) cost = Math.min(cost, beforeLast[column - 2]! + 1);
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length]!;
}
