import { isStorableText } from './failure.ts';

const BACKSLASH = 0x5c;
const decoder = new TextDecoder();

/**
 * Where JSON says a text that Postgres, and many readers, cannot keep: with NUL or half of a surrogate pair. In UTF-8 both
 * can only be written as escapes, so text without `\u0000` and `\ud8…` is never parsed.
 *
 * @param root the name of the whole value in the path
 * @returns a path such as `input.list[3].name`; null: there is none, or this is no JSON
 */
export function unstorableAt(json: string | Uint8Array, root: string): string | null {
  if (!mayBeUnstorable(json)) return null;
  let value: unknown;
  try {
    value = JSON.parse(typeof json === 'string' ? json : decoder.decode(json));
  } catch {
    return null;
  }
  return find(value, root);
}

const ESCAPE = /\\u(?:0000|d[89a-f])/i;

/** Search first, as most JSON has no such escape: 2 MiB of plain text take 0.1 ms as a string, 1.6 ms as bytes; parsing takes 2 ms. */
function mayBeUnstorable(json: string | Uint8Array): boolean {
  if (typeof json === 'string') return json.includes('\\u') && ESCAPE.test(json);
  const first = json.indexOf(BACKSLASH);
  // Then a loop: where there is one backslash there are often many, and `indexOf` for each takes 20 times as long.
  for (let i = first; i >= 0 && i < json.length; i++) {
    if (json[i] !== BACKSLASH) continue;
    // What follows a backslash is looked at with it: the second one of two begins nothing.
    if (json[++i] !== 0x75) continue;
    // \ud800 to \udfff, in either case of letters.
    if ((json[i + 1]! | 0x20) === 0x64 && json[i + 2]! >= 0x38) return true;
    if (json[i + 1] === 0x30 && json[i + 2] === 0x30 && json[i + 3] === 0x30 && json[i + 4] === 0x30) return true;
  }
  return false;
}

/** Depth first, in the order of the text, without recursion: JSON may be nested very deep. */
function find(value: unknown, root: string): string | null {
  interface Place {
    readonly value: unknown;
    readonly above: Place | null;
    readonly step: string;
  }
  const pathOf = (place: Place): string => {
    const steps: string[] = [];
    for (let at: Place | null = place; at !== null; at = at.above) steps.push(at.step);
    return steps.reverse().join('');
  };
  const stack: Place[] = [{ value, above: null, step: root }];
  for (let place = stack.pop(); place !== undefined; place = stack.pop()) {
    const { value: found } = place;
    if (typeof found === 'string' && !isStorableText(found)) return pathOf(place);
    if (typeof found !== 'object' || found === null) continue;
    const inside: Place[] = [];
    if (Array.isArray(found))
      for (let i = 0; i < found.length; i++) inside.push({ value: found[i], above: place, step: `[${i}]` });
    else
      for (const [key, each] of Object.entries(found)) {
        if (!isStorableText(key)) return `${pathOf(place)}[${JSON.stringify(key)}]`;
        const step = /^[A-Za-z_]\w*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
        inside.push({ value: each, above: place, step });
      }
    while (inside.length > 0) stack.push(inside.pop()!);
  }
  return null;
}
