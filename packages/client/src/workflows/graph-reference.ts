/** Never there at run time: it carries the type of the value that is known only when the node starts. */
declare const VALUE: unique symbol;

/** A value that is known when a node starts. Its fields and items are references to parts of it; it cannot be computed with. */
export type Reference<T> = { readonly [VALUE]: T } & Parts<NonNullable<T>>;

type Parts<T> = T extends readonly (infer Item)[]
  ? { readonly [index: number]: Reference<Item> }
  : T extends object
    ? { readonly [Key in keyof T]-?: Reference<T[Key]> }
    : unknown;

/** The value of a CEL expression, made by `expr`. Its type is the author's word: it is checked when the node starts. */
export interface Expression<T> {
  readonly [VALUE]: T;
}

/** What may stand where a `T` is wanted: a value, a reference, an expression, or an object or list with such parts. */
export type Template<T> =
  | { readonly [VALUE]: T }
  | (T extends string | number | boolean | null | undefined
      ? T
      : T extends readonly (infer Item)[]
        ? readonly Template<Item>[]
        : T extends object
          ? { readonly [Key in keyof T]: Template<T[Key]> }
          : T);

/** What a template becomes when its references are known. */
export type ValueOf<T> = T extends { readonly [VALUE]: infer Value }
  ? Value
  : T extends readonly unknown[]
    ? { -readonly [Index in keyof T]: ValueOf<T[Index]> }
    : T extends object
      ? { readonly [Key in keyof T]: ValueOf<T[Key]> }
      : T;

/** A graph that cannot be built: a reference to a node that is not needed, an id given twice, a value that is not JSON. */
export class GraphError extends Error {
  override readonly name = 'GraphError';
}

type Path = readonly (string | number)[];
type Source =
  | { readonly type: 'output'; readonly node: string; readonly owner: object; readonly path: Path }
  | { readonly type: 'state'; readonly node: string; readonly owner: object; readonly path: Path }
  | { readonly type: 'input'; readonly path: Path }
  /** `item`, `index`, `matrix`: names that only expressions know. */
  | { readonly type: 'name'; readonly name: string; readonly path: Path }
  | { readonly type: 'expression'; readonly text: string; readonly named: readonly Source[] };

// Beside the objects, not in them: every key of a proxy is a way into the value.
const sources = new WeakMap<object, Source>();

export function reference<T>(source: Exclude<Source, { type: 'expression' }>): Reference<T> {
  const proxy = new Proxy(Object.create(null) as object, {
    get: (_, key) => {
      if (typeof key === 'symbol') return undefined;
      const step = /^(0|[1-9]\d{0,8})$/.test(key) ? Number(key) : key;
      return reference({ ...source, path: [...source.path, step] });
    },
    set: () => false,
  });
  sources.set(proxy, source);
  return proxy as Reference<T>;
}

/**
 * A CEL expression: ``expr<boolean>`${a.total} > 10` ``. References become CEL's names for them, other values their literals.
 */
export function expr<T = unknown>(texts: TemplateStringsArray, ...values: readonly unknown[]): Expression<T> {
  const named: Source[] = [];
  const text = texts
    .map((part, index) => {
      if (index === texts.length - 1) return part;
      const value = values[index];
      const source = sourceOf(value);
      if (source === undefined) return part + literalOf(value);
      named.push(...(source.type === 'expression' ? source.named : [source]));
      return part + celOf(source);
    })
    .join('');
  const expression = Object.freeze({});
  sources.set(expression, { type: 'expression', text, named });
  return expression as Expression<T>;
}

function sourceOf(value: unknown): Source | undefined {
  return typeof value === 'object' && value !== null ? sources.get(value) : undefined;
}

function literalOf(value: unknown): string {
  const text = JSON.stringify(value);
  if (text === undefined) throw new GraphError(`an expression cannot hold ${typeof value}`);
  return text;
}

function celOf(source: Source): string {
  if (source.type === 'expression') return `(${source.text})`;
  const root =
    source.type === 'output' || source.type === 'state'
      ? `nodes[${JSON.stringify(source.node)}].${source.type}`
      : source.type === 'input'
        ? 'input'
        : source.name;
  return root + source.path.map((step) => `[${JSON.stringify(step)}]`).join('');
}

/** Checks that a reference may stand where it does; throws `GraphError`. */
export type CheckReference = (node: string, owner: object) => void;

/** The text of a condition. */
export function expressionText(value: unknown, check: CheckReference): string {
  const source = sourceOf(value);
  if (source === undefined) throw new GraphError('a condition is made by expr`...`');
  checkSource(source, check);
  return source.type === 'expression' ? source.text : celOf(source);
}

/** A file that a node produces, made by its `artifact`. */
export interface ArtifactReference {
  readonly __baton: 'artifact reference';
}

const artifactSources = new WeakMap<object, { node: string; owner: object; artifact: string; item: unknown }>();

export function artifactReference(node: string, owner: object, artifact: string, item: unknown): ArtifactReference {
  const made = Object.freeze({ __baton: 'artifact reference' as const });
  artifactSources.set(made, { node, owner, artifact, item });
  return made;
}

/** What a node is handed, as files write it: a node's file, or what has one in it. */
export function fileArtifact(value: unknown, check: CheckReference): unknown {
  const source = typeof value === 'object' && value !== null ? artifactSources.get(value) : undefined;
  if (source === undefined) return fileTemplate(value, check);
  const { node, owner, artifact, item } = source;
  check(node, owner);
  return { $from: node, artifact, ...(item !== undefined && { item: fileTemplate(item, check) }) };
}

/** A template as files write it. */
export function fileTemplate(value: unknown, check: CheckReference): unknown {
  const source = sourceOf(value);
  if (source !== undefined) {
    checkSource(source, check);
    if (source.type === 'input') return { $input: [...source.path] };
    if (source.type !== 'output') return { $expr: source.type === 'expression' ? source.text : celOf(source) };
    return source.path.length === 0 ? { $from: source.node } : { $from: source.node, path: [...source.path] };
  }
  if (Array.isArray(value)) return value.map((item) => fileTemplate(item, check));
  if (typeof value === 'object' && value !== null) {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) throw new GraphError('an input is JSON: no classes');
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return Object.fromEntries(entries.map(([key, item]) => [key, fileTemplate(item, check)]));
  }
  const isJson = value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value);
  if (!isJson) throw new GraphError(`an input is JSON: no ${typeof value} ${String(value)}`);
  return value;
}

function checkSource(source: Source, check: CheckReference): void {
  if (source.type === 'output' || source.type === 'state') check(source.node, source.owner);
  if (source.type === 'expression') for (const named of source.named) checkSource(named, check);
}
