/** One way in which two checkpoints differ, both sides as text. */
export interface CheckpointDifference {
  /** "sha256", "size_bytes", "score", "encoding", "metadata.KEY", or a JSON pointer. */
  what: string;
  a: string;
  b: string;
}

interface Facts {
  sha256: string;
  sizeBytes: number;
  encoding: 1 | 2;
  score: number | null;
  metadata: Record<string, string> | null;
}

/** What stands where a side has nothing. */
const ABSENT = '';
/** A value is shown up to this length. */
const SHOWN = 1_000;
/** Deeper values are compared as a whole: nobody reads such a pointer, and whoever wrote it must not be able to exhaust the stack. */
const MAX_DEPTH = 200;

/** How they differ beside their bytes. */
export function factDifferences(a: Facts, b: Facts): CheckpointDifference[] {
  const found: CheckpointDifference[] = [];
  const compare = (what: string, left: string, right: string) => {
    if (left !== right) found.push({ what, a: left, b: right });
  };
  compare('sha256', a.sha256, b.sha256);
  compare('size_bytes', String(a.sizeBytes), String(b.sizeBytes));
  compare('score', a.score === null ? ABSENT : String(a.score), b.score === null ? ABSENT : String(b.score));
  compare('encoding', a.encoding === 1 ? 'json' : 'bytes', b.encoding === 1 ? 'json' : 'bytes');
  const [left, right] = [new Map(Object.entries(a.metadata ?? {})), new Map(Object.entries(b.metadata ?? {}))];
  for (const key of [...new Set([...left.keys(), ...right.keys()])].sort())
    if (left.get(key) !== right.get(key))
      found.push({ what: `metadata.${key}`, a: left.get(key) ?? ABSENT, b: right.get(key) ?? ABSENT });
  return found;
}

/** Where two JSON texts differ, by JSON pointers (RFC 6901); nothing where one of them is not JSON. */
export function contentDifferences(a: Uint8Array, b: Uint8Array, limit: number): CheckpointDifference[] {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let left: unknown;
  let right: unknown;
  try {
    left = JSON.parse(decoder.decode(a));
    right = JSON.parse(decoder.decode(b));
  } catch {
    return [];
  }
  const found: CheckpointDifference[] = [];
  walk(left, right, '', 0);
  return found;

  function walk(x: unknown, y: unknown, pointer: string, depth: number): void {
    if (found.length >= limit || x === y) return;
    if (isContainer(x) && isContainer(y) && Array.isArray(x) === Array.isArray(y) && depth < MAX_DEPTH) {
      const keys = Array.isArray(x)
        ? Array.from({ length: Math.max(x.length, (y as unknown[]).length) }, (_, i) => String(i))
        : [...new Set([...Object.keys(x), ...Object.keys(y)])];
      for (const key of keys) {
        const below = `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
        walk(own(x, key), own(y, key), below, depth + 1);
        if (found.length >= limit) return;
      }
      return;
    }
    const [left, right] = [textOf(x), textOf(y)];
    // Too deep to be walked, and the same all the same.
    if (left !== right) found.push({ what: pointer, a: shown(left), b: shown(right) });
  }
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** A member, and not what objects inherit. */
function own(container: object, key: string): unknown {
  return Object.hasOwn(container, key) ? (container as Record<string, unknown>)[key] : undefined;
}

function textOf(value: unknown): string {
  if (value === undefined) return ABSENT;
  try {
    return JSON.stringify(value);
  } catch {
    // Nested deeper than it can be written; then it is not said how the two differ.
    return '…';
  }
}

function shown(text: string): string {
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}
