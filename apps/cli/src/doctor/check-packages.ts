import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Finding, ok, problem } from './finding.ts';

/** What must be exactly as it is asked for: generated code and its run time, and packages that pin each other. */
const EXACT = /^@(bufbuild|connectrpc)\//;
/** These must be one version, whatever it is. */
const ALIKE = ['@connectrpc/connect', '@connectrpc/connect-node', '@connectrpc/connect-web'] as const;
const WORKSPACES = ['apps', 'packages', 'examples'] as const;

interface Manifest {
  readonly directory: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

/**
 * Compares the versions that package.json files ask for with those that are installed.
 * @param root of the repository; undefined: this command's own package is looked at
 */
export function checkPackages(root: string | undefined, ownDirectory: string): readonly Finding[] {
  const manifests = root === undefined ? [readManifest(ownDirectory)] : workspaceManifests(root);
  const findings: Finding[] = [];
  const installed = new Map<string, Set<string>>();
  let compared = 0;
  for (const { directory, dependencies } of manifests) {
    for (const [name, asked] of Object.entries(dependencies)) {
      if (!EXACT.test(name)) continue;
      compared += 1;
      const version = installedVersion(name, directory);
      if (version === undefined) {
        findings.push(problem('packages', `${name} is not installed for ${directory}`, 'npm install'));
        continue;
      }
      installed.set(name, (installed.get(name) ?? new Set()).add(version));
      if (version !== asked) {
        findings.push(problem('packages', `${name} is ${version}, and ${directory} needs ${asked}`, 'npm install'));
      }
    }
  }
  const versions = new Set(ALIKE.flatMap((name) => [...(installed.get(name) ?? [])]));
  if (versions.size > 1) {
    const list = ALIKE.map((name) => `${name} ${[...(installed.get(name) ?? ['-'])].join(' and ')}`).join(', ');
    findings.push(
      problem(
        'packages',
        `the packages of Connect differ: ${list}`,
        'give all of them one exact version, then npm install',
      ),
    );
  }
  if (findings.length > 0) return findings;
  return [ok('packages', `${compared} exact versions are installed as asked for`)];
}

function workspaceManifests(root: string): Manifest[] {
  const directories = WORKSPACES.flatMap((kind) => list(join(root, kind)).map((name) => join(root, kind, name)));
  return directories.map(readManifest);
}

function readManifest(directory: string): Manifest {
  const { dependencies = {} } = read(join(directory, 'package.json')) ?? {};
  return { directory, dependencies };
}

/** As Node finds it: in the nearest node_modules that has it. */
function installedVersion(name: string, from: string): string | undefined {
  for (let at = from; ; at = dirname(at)) {
    const manifest = read(join(at, 'node_modules', name, 'package.json'));
    if (manifest?.version !== undefined) return manifest.version;
    if (dirname(at) === at) return undefined;
  }
}

function read(file: string): { version?: string; dependencies?: Record<string, string> } | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
