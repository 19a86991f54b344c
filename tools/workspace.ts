import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';

/** The part of a package.json that the tools read. */
export interface Manifest {
  name: string;
  version: string;
  description?: string;
  license?: string;
  engines?: Record<string, string>;
  sideEffects?: boolean | string[];
  bin?: string | Record<string, string>;
  exports?: Record<string, ExportTarget>;
  workspaces?: string[];
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
  optionalDependencies?: Record<string, string>;
  /** What besides code a package needs at run time: paths or directories relative to it, `*` for a part of a name. */
  baton?: { assets?: string[] };
}

export type ExportTarget = string | { [condition: string]: ExportTarget };

/** A member of the workspace. All paths are relative to the root of the repository, with `/`. */
export interface WorkspacePackage {
  name: string;
  directory: string;
  /** The folder that it stands in; the repository itself (test, tools, configuration) is `root`. */
  kind: 'packages' | 'apps' | 'examples' | 'root';
  manifest: Manifest;
}

export interface Workspace {
  root: string;
  packages: WorkspacePackage[];
  byName: Map<string, WorkspacePackage>;
  /** The member that a file belongs to. */
  ownerOf(file: string): WorkspacePackage;
}

/** Reads the workspace from the package.json at its root. */
export function readWorkspace(root: string): Workspace {
  const manifest = readManifest(root, '.');
  const packages: WorkspacePackage[] = [];
  for (const pattern of manifest.workspaces ?? []) {
    const parent = pattern.replace(/\/\*$/, '');
    if (!existsSync(join(root, parent))) continue;
    for (const entry of readdirSync(join(root, parent), { withFileTypes: true })) {
      const directory = `${parent}/${entry.name}`;
      if (!entry.isDirectory() || !existsSync(join(root, directory, 'package.json'))) continue;
      const own = readManifest(root, directory);
      packages.push({ name: own.name, directory, kind: parent as WorkspacePackage['kind'], manifest: own });
    }
  }
  packages.sort((a, b) => a.directory.localeCompare(b.directory));
  const self: WorkspacePackage = { name: manifest.name, directory: '.', kind: 'root', manifest };
  return {
    root,
    packages: [...packages, self],
    byName: new Map(packages.map((member) => [member.name, member])),
    ownerOf: (file) => packages.find(({ directory }) => file.startsWith(`${directory}/`)) ?? self,
  };
}

const readManifest = (root: string, directory: string): Manifest =>
  JSON.parse(readFileSync(join(root, directory, 'package.json'), 'utf8')) as Manifest;

const NOT_SOURCE = new Set(['node_modules', 'dist', 'coverage', 'logs', 'fixtures']);

/** Every file below a directory that a person wrote or a generator checked in, relative to the root, sorted. */
export function sourceFiles(root: string, below = '.'): string[] {
  const found: string[] = [];
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.name.startsWith('.') || NOT_SOURCE.has(entry.name)) continue;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) visit(path);
      else if (entry.isFile()) found.push(relative(root, path).split(sep).join('/'));
    }
  };
  visit(join(root, below));
  return found.sort();
}

/** The file behind a sub-path (`.` or `./x`) of a package, relative to the root; undefined: it is not exported. */
export function resolveExport(member: WorkspacePackage, subpath: string): string | undefined {
  for (const [key, target] of Object.entries(member.manifest.exports ?? {})) {
    const file = pickCondition(target);
    if (file === undefined) continue;
    if (key === subpath) return posix.join(member.directory, file);
    const [head, tail] = key.split('*');
    if (tail === undefined || !subpath.startsWith(head!) || !subpath.endsWith(tail)) continue;
    const part = subpath.slice(head!.length, subpath.length - tail.length);
    return posix.join(member.directory, file.replaceAll('*', part));
  }
  return undefined;
}

/** The target that Node takes for an import. */
export function pickCondition(target: ExportTarget): string | undefined {
  if (typeof target === 'string') return target;
  for (const [condition, inner] of Object.entries(target)) {
    if (!['node', 'import', 'default'].includes(condition)) continue;
    const file = pickCondition(inner);
    if (file !== undefined) return file;
  }
  return undefined;
}

/** The file that a relative specifier means, relative to the root; undefined: there is none. */
export function resolveRelative(root: string, from: string, specifier: string): string | undefined {
  const path = posix.join(posix.dirname(from), specifier.replace(/[?#].*$/, ''));
  const candidates = [path, path.replace(/\.js$/, '.ts')];
  return candidates.find((candidate) => existsSync(join(root, candidate)));
}

/** The directory of the repository that this tool belongs to. */
export const repositoryRoot: string = dirname(import.meta.dirname);
