/**
 * The shape of an expression: the same text with other node ids, numbers and strings has the same shape, and what can be
 * said about it without values is the same but for the names of the nodes. A file of 10 000 nodes, each with a `when` of
 * its own, has a few shapes; to parse a shape once costs what to parse each of them would cost 10 000 times.
 */
export interface Shape {
  readonly text: string;
  /** What `NODE<n>` in the text stands for. */
  readonly names: readonly string[];
}

const WORD = /\s+|[A-Za-z_]\w*|\d+(?:\.\d+)?(?![\w.])|"[^"\\\r\n]*"|'[^'\\\r\n]*'|[-+*/%!<>=&|?:,.()[\]{}]/y;
/** Texts that mean something to the look at an expression. */
const MEANT: ReadonlySet<string> = new Set(['output', 'state', 'failure', 'id', 'execution']);
/** No ids of nodes after a dot: CEL keeps them for itself. */
const RESERVED: ReadonlySet<string> = new Set(
  ['as', 'break', 'const', 'continue', 'else', 'false', 'for', 'function', 'if', 'import', 'in', 'let', 'loop'].concat([
    'null',
    'package',
    'namespace',
    'return',
    'true',
    'var',
    'void',
    'while',
  ]),
);

const PLACEHOLDER = /^NODE(\d+)$/;

/** The shape of a text of plain words; undefined for others, which have none. */
export function shapeOf(text: string): Shape | undefined {
  // A comment ends with its line; it has no place in a shape.
  if (text.includes('//')) return undefined;
  const names: string[] = [];
  let shape = '';
  // The two words before, without white space.
  let [last, before] = ['', ''];
  WORD.lastIndex = 0;
  while (WORD.lastIndex < text.length) {
    const word = WORD.exec(text)?.[0];
    if (word === undefined) return undefined;
    const first = word[0]!;
    if (/\s/.test(first)) {
      shape += ' ';
      continue;
    }
    if (first === '"' || first === "'") {
      // Three quotes, or a prefix as in r"…", make another kind of text of it.
      if (/[\w"']$/.test(last)) return undefined;
      const content = word.slice(1, -1);
      shape += MEANT.has(content) ? word : `"NODE${names.push(content) - 1}"`;
    } else if (/\d/.test(first)) {
      if (/[\w.]$/.test(last) || word.length > 15) return undefined;
      shape += word.includes('.') ? '1.5' : '1';
    } else if (last === '.' && before === 'nodes' && /[A-Za-z_]/.test(first) && !RESERVED.has(word)) {
      shape += `NODE${names.push(word) - 1}`;
    } else {
      if (word.startsWith('NODE')) return undefined;
      shape += word;
    }
    [before, last] = [last, word];
  }
  return { text: shape, names };
}

/** The name behind a placeholder. */
export function nameOf(placeholder: string, { names }: Shape): string | undefined {
  const number = PLACEHOLDER.exec(placeholder)?.[1];
  return number === undefined ? undefined : names[Number(number)];
}
