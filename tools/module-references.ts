import { isBuiltin } from 'node:module';
import { parseSync, Visitor } from 'oxc-parser';

/**
 * How a file names another module:
 * - `import`: a static import or re-export that is carried out;
 * - `type`: one that disappears when types are stripped (`import type`, `export type`, `import('x').T`);
 * - `dynamic`: `import('x')`;
 * - `resolve`: `import.meta.resolve('x')` or `require.resolve('x')`;
 * - `url`: `new URL('./x', import.meta.url)`.
 */
export type ReferenceKind = 'import' | 'type' | 'dynamic' | 'resolve' | 'url';

export interface ModuleReference {
  specifier: string;
  kind: ReferenceKind;
  /** Counts from 1. */
  line: number;
  /** Offsets of the literal in the source, in UTF-16 units, quotes included. */
  start: number;
  end: number;
}

/** Something of the process that a file reaches for without importing it. */
export interface GlobalUse {
  /** `process.env`, `Deno.env`, `process`, `Buffer`, ... */
  name: string;
  line: number;
}

export interface ModuleFacts {
  references: ModuleReference[];
  globals: GlobalUse[];
  /** What the parser did not understand, as it said it; the lists above are then not complete. */
  errors: string[];
}

// oxc's node types are generic over the dialect; the few properties that are read here are the same in all of them.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Node = any;

const NODE_GLOBALS = new Set(['process', 'Buffer', 'setImmediate', 'clearImmediate', '__dirname', '__filename']);

/** Reads what a TypeScript or JavaScript file refers to. It parses, so comments and strings do not count. */
export function readModule(path: string, source: string): ModuleFacts {
  const { program, errors } = parseSync(path, source);
  const references: ModuleReference[] = [];
  const globals: GlobalUse[] = [];
  const declared = new Set<string>();
  const lineAt = lineCounter(source);

  const refer = (literal: Node, kind: ReferenceKind): void => {
    if (literal?.type !== 'Literal' || typeof literal.value !== 'string') return; // computed: nobody can follow it
    const { value: specifier, start, end } = literal;
    references.push({ specifier, kind, line: lineAt(start), start, end });
  };
  const use = (name: string, node: Node): void => {
    globals.push({ name, line: lineAt(node.start) });
  };

  new Visitor({
    ImportDeclaration(node: Node) {
      refer(node.source, node.importKind === 'type' ? 'type' : 'import');
      for (const { local, imported } of node.specifiers) {
        declared.add(local.name);
        if (imported?.name === 'env' && /^(node:)?process$/.test(node.source.value)) use('process.env', node);
      }
    },
    ExportNamedDeclaration(node: Node) {
      if (node.source) refer(node.source, node.exportKind === 'type' ? 'type' : 'import');
    },
    ExportAllDeclaration(node: Node) {
      refer(node.source, node.exportKind === 'type' ? 'type' : 'import');
    },
    TSModuleDeclaration(node: Node) {
      refer(node.id, 'type'); // declare module 'x'
    },
    TSImportType(node: Node) {
      refer(node.source, 'type');
    },
    TSExternalModuleReference(node: Node) {
      refer(node.expression, 'import');
    },
    ImportExpression(node: Node) {
      refer(node.source, 'dynamic');
    },
    CallExpression(node: Node) {
      const { callee } = node;
      const literal = node.arguments[0];
      if (callee.type === 'Identifier' && callee.name === 'require') refer(literal, 'dynamic');
      if (callee.type === 'Identifier' && NODE_GLOBALS.has(callee.name)) use(callee.name, node);
      if (callee.type !== 'MemberExpression' || callee.property.name !== 'resolve') return;
      const ofMeta = callee.object.type === 'MetaProperty';
      if (ofMeta || callee.object.name === 'require') refer(literal, 'resolve');
    },
    NewExpression(node: Node) {
      const [first, second] = node.arguments;
      if (node.callee.name === 'URL' && isImportMetaUrl(second)) refer(first, 'url');
    },
    VariableDeclarator(node: Node) {
      if (node.id.type === 'Identifier') declared.add(node.id.name);
      if (node.id.type !== 'ObjectPattern' || !isProcess(node.init)) return;
      for (const property of node.id.properties) if (property.key?.name === 'env') use('process.env', node);
    },
    FunctionDeclaration: declareParams,
    FunctionExpression: declareParams,
    ArrowFunctionExpression: declareParams,
    MemberExpression(node: Node) {
      const { object } = node;
      const property = node.computed ? node.property.value : node.property.name;
      if (property === 'env' && isProcess(object)) use('process.env', node);
      else if (property === 'env' && object.name === 'Deno') use('Deno.env', node);
      else if (object.type === 'Identifier' && NODE_GLOBALS.has(object.name)) use(object.name, node);
    },
  } as never).visit(program);

  function declareParams(node: Node): void {
    for (const param of node.params) if (param.type === 'Identifier') declared.add(param.name);
  }

  return {
    references,
    // A parameter called `process` is not Node's.
    globals: globals.filter(({ name }) => !declared.has(name)),
    errors: errors.map(({ message }) => message),
  };
}

const isProcess = (node: Node): boolean =>
  (node?.type === 'Identifier' && node.name === 'process') ||
  (node?.type === 'MemberExpression' && node.object.name === 'globalThis' && node.property.name === 'process');

const isImportMetaUrl = (node: Node): boolean =>
  node?.type === 'MemberExpression' && node.object.type === 'MetaProperty' && node.property.name === 'url';

function lineCounter(source: string): (offset: number) => number {
  const starts = [0];
  for (let at = source.indexOf('\n'); at >= 0; at = source.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle;
    }
    return low + 1;
  };
}

/** Whether a specifier stands for a file near by. */
export const isRelative = (specifier: string): boolean => /^\.{1,2}(\/|$)/.test(specifier);

/** Whether a specifier stands for a module of Node itself, with or without the `node:`. */
export const isNodeBuiltin = (specifier: string): boolean => isBuiltin(specifier);

/** `@scope/name/deep/er` is the package `@scope/name` and the sub-path `./deep/er`; the package itself is `.`. */
export function splitSpecifier(specifier: string): { name: string; subpath: string } {
  const parts = specifier.split('/');
  const name = parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
  const rest = specifier.slice(name.length);
  return { name, subpath: rest === '' ? '.' : `.${rest}` };
}
