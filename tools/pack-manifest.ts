import { posix } from 'node:path';
import { TEST_FILE } from './house-rules.ts';
import { shortName, toEmitted } from './pack-rewrite.ts';
import { type Manifest, pickCondition, type Workspace, type WorkspacePackage } from './workspace.ts';

/** The package.json of a tarball. */
export interface PackedManifest {
  name: string;
  version: string;
  description?: string;
  license?: string;
  type: 'module';
  engines?: Record<string, string>;
  sideEffects?: boolean;
  exports: Record<string, { types: string; default: string }>;
  bin?: Record<string, string>;
  files: string[];
  dependencies: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
  optionalDependencies?: Record<string, string>;
}

/** What cannot be packed, and why: missing, not compiling, or asked for in two versions. */
export class PackError extends Error {
  override readonly name = 'PackError';
}

/**
 * Makes the package.json of a tarball: the name, version, exports and commands of the packed package, and the public
 * npm packages that it and the others inside need. Throws a PackError when two of them ask for different versions of one.
 */
export function mergeManifests(
  workspace: Workspace,
  entry: WorkspacePackage,
  members: readonly WorkspacePackage[],
): PackedManifest {
  const { manifest } = entry;
  const emitted = (file: string, ending?: '.d.ts'): string =>
    `./${posix.join('dist', shortName(entry.name), toEmitted(posix.normalize(file), ending))}`;
  const exports: PackedManifest['exports'] = {};
  for (const [subpath, target] of Object.entries(manifest.exports ?? {})) {
    const file = pickCondition(target);
    // What only tests use is not packed.
    if (file === undefined || TEST_FILE.test(file)) continue;
    exports[subpath] = { types: emitted(file, isData(file) ? undefined : '.d.ts'), default: emitted(file) };
  }
  const commands = typeof manifest.bin === 'string' ? { [shortName(entry.name)]: manifest.bin } : manifest.bin;
  const bin = commands && Object.fromEntries(Object.entries(commands).map(([name, file]) => [name, emitted(file)]));
  const root = workspace.packages.at(-1)!.manifest;
  const optionalDependencies = merge(workspace, members, 'optionalDependencies');
  const peerDependencies = merge(workspace, members, 'peerDependencies');
  const peerDependenciesMeta = Object.assign({}, ...members.map((member) => member.manifest.peerDependenciesMeta));
  return {
    name: entry.name,
    version: manifest.version,
    description: manifest.description,
    license: manifest.license ?? root.license,
    type: 'module',
    engines: manifest.engines ?? root.engines,
    // Only when all that is inside says so, a bundler may leave out what a page does not use.
    ...(members.every((member) => member.manifest.sideEffects === false) && { sideEffects: false }),
    exports,
    ...(bin && { bin }),
    files: ['dist'],
    dependencies: merge(workspace, members, 'dependencies'),
    ...(Object.keys(peerDependencies).length > 0 && { peerDependencies, peerDependenciesMeta }),
    ...(Object.keys(optionalDependencies).length > 0 && { optionalDependencies }),
  };
}

/** A file of data declares itself. */
const isData = (file: string): boolean => file.endsWith('.json');

function merge(
  { byName }: Workspace,
  members: readonly WorkspacePackage[],
  field: keyof Pick<Manifest, 'dependencies' | 'peerDependencies' | 'optionalDependencies'>,
): Record<string, string> {
  const merged = new Map<string, { range: string; by: string }>();
  for (const { name: by, manifest } of members) {
    for (const [name, range] of Object.entries(manifest[field] ?? {})) {
      if (byName.has(name)) continue;
      const other = merged.get(name);
      if (other && other.range !== range) {
        const both = `${other.range} in ${other.by} and ${range} in ${by}`;
        throw new PackError(`${name} is ${both}: one tarball has one version`);
      }
      merged.set(name, { range, by });
    }
  }
  return Object.fromEntries([...merged].sort().map(([name, { range }]) => [name, range]));
}
