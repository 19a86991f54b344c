import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { isRelative, readModule, splitSpecifier } from './module-references.ts';
import { resolveExport, type Workspace } from './workspace.ts';

/** The name that the compiler gives to what it makes of a source file: `x.ts` → `x.js`, or its declarations `x.d.ts`. */
export function toEmitted(file: string, ending: '.js' | '.d.ts' = '.js'): string {
  if (file.endsWith('.d.ts')) return file;
  return file.replace(/\.tsx?$/, ending).replace(/\.js$/, ending);
}

/** The name of a package without its scope, which is the name of its folder in the tarball. */
export const shortName = (name: string): string => name.replace(/^@[^/]+\//, '');

/**
 * Where a file of the repository lies in the tarball's `dist`: every package is a folder beside the others, by its name,
 * for folders of the repository can have the same name twice (apps/worker, packages/worker).
 */
export function placeOf(workspace: Workspace, file: string): string {
  const owner = workspace.ownerOf(file);
  return posix.join(shortName(owner.name), file.slice(owner.directory.length + 1));
}

export interface Rewritten {
  code: string;
  /** References that lead nowhere, each as a sentence that names the file. */
  problems: string[];
}

/**
 * Turns what a compiled file refers to into paths that hold inside the tarball: `@baton/x` into a relative path, by the
 * exports of that package, and `./x.ts` into `./x.js`, in imports, `import()`, `import.meta.resolve()` and
 * `new URL(…, import.meta.url)` alike.
 *
 * @param file where the source of the code lies, relative to the root of the repository
 * @param refersTo is told of each file of the repository that the code names
 */
export function rewriteModule(
  workspace: Workspace,
  file: string,
  code: string,
  refersTo: (target: string) => void,
): Rewritten {
  const problems: string[] = [];
  const { references, errors } = readModule(file, code);
  const written = file.replace(/(\.d\.ts|\.js)$/, '.ts');
  const source = existsSync(join(workspace.root, written)) ? written : file;
  for (const error of errors) problems.push(`${source}: ${error}`);
  let result = code;
  // From the end, so that the offsets of what is left stay right.
  for (const { specifier, start, end } of references.sort((a, b) => b.start - a.start)) {
    const target = targetOf(workspace, file, specifier);
    if (target === undefined) continue;
    if (target.problem) problems.push(`${source}: ${target.problem}`);
    refersTo(target.file);
    const quote = code[start]!;
    result = `${result.slice(0, start)}${quote}${target.specifier}${quote}${result.slice(end)}`;
  }
  return { code: result, problems };
}

/** What a specifier means and how it is written in the tarball; undefined: it stays as it is. */
function targetOf(
  workspace: Workspace,
  file: string,
  specifier: string,
): { file: string; specifier: string; problem?: string } | undefined {
  if (isRelative(specifier)) {
    const target = posix.join(posix.dirname(file), specifier);
    const other = workspace.ownerOf(target);
    const owner = workspace.ownerOf(file);
    // Already emitted code says .js where there is a .ts; generated code says .js where there is one.
    const there = [target, target.replace(/\.js$/, '.ts'), target.replace(/\.js$/, '.tsx')];
    const found = there.some((path) => existsSync(join(workspace.root, path)));
    const problem = found ? undefined : `${specifier} is not there`;
    if (other !== owner) return { file: target, specifier, problem: `${specifier} leaves the package` };
    return { file: target, specifier: toEmitted(specifier), ...(problem && { problem }) };
  }
  const { name, subpath } = splitSpecifier(specifier);
  const member = workspace.byName.get(name);
  if (!member) return undefined;
  const target = resolveExport(member, subpath);
  if (target === undefined) return { file, specifier, problem: `${name} does not export ${subpath}` };
  const here = posix.dirname(placeOf(workspace, file));
  const path = posix.relative(here, toEmitted(placeOf(workspace, target)));
  return { file: target, specifier: path.startsWith('.') ? path : `./${path}` };
}
