/**
 * Proves the rules of the house (tools/house-rules.ts): which package may import which, no cycles, what runs on the
 * edge is free of Node, everything imported is declared and exported, who may read the environment, names and lengths.
 *
 *   node tools/house.ts [DIRECTORY]     each violation as `file:line rule — what to do`; exit code 1 if there is any
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Edge, findCycles } from './house-cycles.ts';
import {
  EDGE_NPM,
  LAYERS,
  type Layer,
  LENGTH_REASON,
  MAX_LINES,
  MAY_READ_ENVIRONMENT,
  NAMELESS,
  NOT_OURS,
  READS_ENVIRONMENT,
  READS_OWN_ENVIRONMENT,
  TEST_FILE,
} from './house-rules.ts';
import {
  isNodeBuiltin,
  isRelative,
  type ModuleFacts,
  type ModuleReference,
  readModule,
  splitSpecifier,
} from './module-references.ts';
import {
  readWorkspace,
  repositoryRoot,
  resolveExport,
  resolveRelative,
  sourceFiles,
  type Workspace,
  type WorkspacePackage,
} from './workspace.ts';

export type Rule =
  | 'direction'
  | 'cycle'
  | 'edge'
  | 'declared'
  | 'testkit'
  | 'exports'
  | 'environment'
  | 'name'
  | 'length'
  | 'readable';

export interface Violation {
  file: string;
  line: number;
  rule: Rule;
  /** What is wrong and what to do. */
  advice: string;
}

export interface Inspection {
  violations: Violation[];
  packages: number;
  files: number;
  references: number;
}

interface House {
  workspace: Workspace;
  files: Map<string, ModuleFacts>;
  report(file: string, line: number, rule: Rule, advice: string): void;
}

const CODE = /\.(ts|tsx|mts|js|mjs)$/;
const HAS_LENGTH = /\.(ts|tsx|mts|js|mjs|css|sql|proto)$/;

/** Inspects the repository (or a tree shaped like it) and returns what it found, in the order of files and lines. */
export function inspectHouse(root: string): Inspection {
  const workspace = readWorkspace(root);
  const violations: Violation[] = [];
  const files = new Map<string, ModuleFacts>();
  const house: House = {
    workspace,
    files,
    report: (file, line, rule, advice) => violations.push({ file, line, rule, advice }),
  };
  const paths = sourceFiles(root);
  for (const file of paths) {
    checkName(house, file);
    if (!HAS_LENGTH.test(file) && !CODE.test(file)) continue;
    const source = readFileSync(join(root, file), 'utf8');
    checkLength(house, file, source);
    if (!CODE.test(file)) continue;
    const facts = readModule(file, source);
    files.set(file, facts);
    for (const error of facts.errors) house.report(file, 1, 'readable', `does not parse: ${error}`);
  }
  for (const member of workspace.packages) checkManifest(house, member);
  const edges: Edge[] = [];
  let references = 0;
  for (const [file, facts] of files) {
    references += facts.references.length;
    checkEnvironment(house, file, facts);
    for (const reference of facts.references) {
      const target = checkReference(house, file, reference);
      if (target && reference.kind !== 'url' && reference.kind !== 'resolve') {
        edges.push({ from: file, to: target, line: reference.line });
      }
    }
  }
  checkCycles(house, edges);
  for (const member of workspace.packages) checkEdge(house, member);
  violations.sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.rule.localeCompare(b.rule));
  return { violations, packages: workspace.packages.length - 1, files: files.size, references };
}

const shortName = (member: WorkspacePackage): string => member.name.replace(/^@baton\//, '');

/** The line of the table for a member; the root (test, tools) has none and may import everything. */
function layerOf(member: WorkspacePackage): Layer | undefined {
  if (member.kind === 'root') return { may: ['*', 'testkit', 'master', 'edge', 'worker', 'dashboard', 'cli'] };
  return LAYERS[member.kind === 'examples' ? 'examples' : shortName(member)];
}

function mayImport(house: House, from: WorkspacePackage, to: WorkspacePackage): boolean {
  const may = layerOf(from)?.may ?? [];
  if (may.includes(shortName(to))) return true;
  return may.includes('*') && house.workspace.byName.get(to.name)?.kind === 'packages' && shortName(to) !== 'testkit';
}

function checkManifest(house: House, member: WorkspacePackage): void {
  const file = join(member.directory, 'package.json');
  const lines = readFileSync(join(house.workspace.root, file), 'utf8').split('\n');
  const lineOf = (text: string): number => lines.findIndex((line) => line.includes(`"${text}"`)) + 1 || 1;
  if (!layerOf(member)) {
    house.report(file, lineOf('name'), 'direction', 'say in tools/house-rules.ts what this new package may import');
    return;
  }
  if (member.kind === 'root') return;
  for (const name of Object.keys({ ...member.manifest.dependencies, ...member.manifest.optionalDependencies })) {
    const other = house.workspace.byName.get(name);
    if (!other) continue;
    if (shortName(other) === 'testkit' && shortName(member) !== 'testkit') {
      house.report(file, lineOf(name), 'testkit', 'nothing that ships needs the testkit: move it to devDependencies');
    } else if (!mayImport(house, member, other)) {
      house.report(file, lineOf(name), 'direction', `${member.name} may not depend on ${name}: remove it`);
    }
  }
}

/** Checks one import; returns the file that it means when that is a file of this repository. */
function checkReference(house: House, file: string, reference: ModuleReference): string | undefined {
  const { workspace, report } = house;
  const { specifier, line } = reference;
  const owner = workspace.ownerOf(file);
  if (isRelative(specifier)) {
    const target = resolveRelative(workspace.root, file, specifier);
    if (target === undefined) {
      if (reference.kind !== 'url') report(file, line, 'readable', `${specifier} is not there: write the file's name`);
      return undefined;
    }
    const other = workspace.ownerOf(target);
    if (TEST_FILE.test(target) && !TEST_FILE.test(file) && owner.kind !== 'root') {
      report(file, line, 'testkit', `${specifier} is there for tests only: nothing that ships imports it`);
    }
    if (other === owner) return target;
    // A test may point at a file of the repository (proto/, node_modules/.bin/); it may not import its code.
    if (other.kind === 'root' && reference.kind === 'url' && TEST_FILE.test(file)) return undefined;
    const entry = other.kind === 'root' ? undefined : other.name;
    const how = entry ? `import what ${entry} exports` : 'code of a package may not import files of the repository';
    report(file, line, 'exports', `${specifier} reaches into another package: ${how}`);
    return target;
  }
  if (reference.kind === 'url' || isNodeBuiltin(specifier) || /^(node|data|https?):/.test(specifier)) return undefined;
  if (specifier.startsWith('#')) return undefined;

  const { name, subpath } = splitSpecifier(specifier);
  const other = workspace.byName.get(name);
  if (!other) {
    if (!declares(house, owner, file, name, reference)) {
      report(file, line, 'declared', `add "${name}" to the dependencies in ${join(owner.directory, 'package.json')}`);
    }
    return undefined;
  }
  if (other === owner) {
    report(file, line, 'cycle', `a package does not import itself by name: import the file that has it`);
  } else {
    checkDirection(house, file, reference, owner, other);
  }
  const target = resolveExport(other, subpath);
  if (target === undefined) {
    const exported = Object.keys(other.manifest.exports ?? {}).join(', ');
    report(file, line, 'exports', `${name} exports ${exported}, not ${subpath}: import one of these or export it`);
  }
  return target;
}

function checkDirection(
  house: House,
  file: string,
  reference: ModuleReference,
  owner: WorkspacePackage,
  other: WorkspacePackage,
): void {
  const { report } = house;
  const test = TEST_FILE.test(file);
  const manifest = join(owner.directory, 'package.json');
  if (shortName(other) === 'testkit' && !test && owner.kind !== 'root') {
    report(file, reference.line, 'testkit', 'nothing that ships imports the testkit: only *.test.ts and test/ may');
    return;
  }
  const allowed = mayImport(house, owner, other) || (test && other.kind === 'packages');
  if (!allowed) {
    const may = layerOf(owner)?.may.map((short) => (short === '*' ? 'every package' : short)) ?? [];
    const list = may.length > 0 ? may.join(', ') : 'nothing';
    report(
      file,
      reference.line,
      'direction',
      `${owner.name} may import ${list}: hand ${other.name}'s part in, or move it`,
    );
  }
  if (owner.kind !== 'root' && !declares(house, owner, file, other.name, reference)) {
    report(file, reference.line, 'declared', `add "${other.name}" to the dependencies in ${manifest}`);
  }
}

/** Types of a package may come from a devDependency; code may not. Tests may use what the repository has for all. */
function declares(
  { workspace }: House,
  owner: WorkspacePackage,
  file: string,
  name: string,
  reference: ModuleReference,
): boolean {
  const { dependencies, devDependencies, peerDependencies, optionalDependencies } = owner.manifest;
  if (name in { ...dependencies, ...peerDependencies, ...optionalDependencies }) return true;
  const development = owner.kind === 'root' || TEST_FILE.test(file) || reference.kind === 'type';
  if (!development) return isConfiguration(file) && name in (devDependencies ?? {});
  if (TEST_FILE.test(file) && workspace.byName.has(name)) return true; // npm links every member of the workspace
  const root = workspace.packages.at(-1)!.manifest;
  return name in { ...devDependencies, ...root.dependencies, ...root.devDependencies };
}

/** `vite.config.ts` and the like build a package and do not ship with it. */
const isConfiguration = (file: string): boolean => /\.config\.ts$/.test(file);

function checkEnvironment(house: House, file: string, { globals }: ModuleFacts): void {
  const owner = house.workspace.ownerOf(file);
  if (owner.kind === 'root' || TEST_FILE.test(file) || isConfiguration(file)) return;
  if (MAY_READ_ENVIRONMENT.includes(shortName(owner)) || READS_OWN_ENVIRONMENT.includes(file)) return;
  const inApp = owner.kind !== 'packages';
  if (inApp && READS_ENVIRONMENT.test(file)) return;
  for (const { name, line } of globals) {
    if (name !== 'process.env' && name !== 'Deno.env') continue;
    const where = inApp ? 'read it in config.ts (or main.ts, bin.ts)' : 'an app reads it';
    house.report(file, line, 'environment', `${name}: ${where} and hands the value down`);
  }
}

function checkName(house: House, file: string): void {
  if (NOT_OURS.test(file)) return;
  const nameless = file.split('/').find((part) => NAMELESS.test(part));
  if (nameless) house.report(file, 1, 'name', `"${nameless}" says nothing: name the thing that is in it`);
}

function checkLength(house: House, file: string, source: string): void {
  if (NOT_OURS.test(file)) return;
  const lines = source.split('\n').length - (source.endsWith('\n') ? 1 : 0);
  if (lines <= MAX_LINES || LENGTH_REASON.test(source)) return;
  house.report(file, lines, 'length', `${lines} lines: split it, or say in a comment "Long because …"`);
}

function checkCycles(house: House, edges: readonly Edge[]): void {
  const name = (file: string): string => house.workspace.ownerOf(file).name;
  const betweenPackages = edges
    .filter(({ from }) => !TEST_FILE.test(from))
    .filter(({ from, to }) => name(from) !== name(to) && house.workspace.ownerOf(from).kind !== 'root')
    .map(({ from, to, line }) => ({ from: name(from), to: name(to), line, file: from }));
  for (const cycle of findCycles(edges)) {
    const path = [...cycle.map(({ from }) => from), cycle[0]!.from].join(' → ');
    house.report(cycle[0]!.from, cycle[0]!.line, 'cycle', `${path}: move what both need into a file of its own`);
  }
  for (const cycle of findCycles(betweenPackages)) {
    const path = [...cycle.map(({ from }) => from), cycle[0]!.from].join(' → ');
    house.report(cycle[0]!.file, cycle[0]!.line, 'cycle', `packages ${path}: turn one arrow round`);
  }
}

/** Follows what really runs from each export of an edge package, across packages, and reports whatever needs Node. */
function checkEdge(house: House, member: WorkspacePackage): void {
  const edge = member.kind === 'root' ? undefined : layerOf(member)?.edge;
  if (!edge) return;
  const seen = new Map<string, string | undefined>(); // file → the file that led there
  const pending: string[] = [];
  for (const subpath of Object.keys(member.manifest.exports ?? {})) {
    const entry = edge.nodeOnly.includes(subpath) ? undefined : resolveExport(member, subpath);
    if (entry === undefined) continue;
    seen.set(entry, undefined);
    pending.push(entry);
  }
  const wayTo = (file: string): string => {
    const way: string[] = [];
    for (let at: string | undefined = file; at !== undefined; at = seen.get(at)) way.unshift(at);
    return way.length > 1 ? ` (${way.join(' → ')})` : '';
  };
  for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
    const facts = house.files.get(file);
    if (!facts) continue;
    const own = house.workspace.ownerOf(file) === member;
    for (const { name, line } of own ? facts.globals : []) {
      if (name.endsWith('.env')) continue; // the rule about the environment has it
      house.report(file, line, 'edge', `${name} is Node's, and ${member.name} runs without it: hand it in`);
    }
    for (const { specifier, kind, line } of facts.references) {
      if (kind === 'type' || kind === 'url') continue;
      const target = fileOf(house, file, specifier);
      if (target === undefined) {
        if (runsOnEdge(specifier)) continue;
        const what = isNodeBuiltin(specifier)
          ? `${specifier} is Node's`
          : `${specifier} is not known to run without Node`;
        house.report(file, line, 'edge', `${what}, and ${member.name} runs on the edge${wayTo(file)}: hand it in`);
      } else if (target !== PROVED && !seen.has(target)) {
        seen.set(target, file);
        pending.push(target);
      }
    }
  }
}

/**
 * The file that an import means; undefined: it is not of this repository. `PROVED` where there is nothing to follow: the
 * other package proves that export itself, or another rule reports that it is not there.
 */
function fileOf({ workspace }: House, from: string, specifier: string): string | typeof PROVED | undefined {
  if (isRelative(specifier)) return resolveRelative(workspace.root, from, specifier) ?? PROVED;
  const { name, subpath } = splitSpecifier(specifier);
  const member = workspace.byName.get(name);
  if (!member) return undefined;
  const edge = layerOf(member)?.edge;
  return edge && !edge.nodeOnly.includes(subpath) ? PROVED : (resolveExport(member, subpath) ?? PROVED);
}
const PROVED = Symbol('proved');

const runsOnEdge = (specifier: string): boolean =>
  EDGE_NPM.some((entry) => (entry.endsWith('/*') ? specifier.startsWith(entry.slice(0, -1)) : specifier === entry));

if (import.meta.main) {
  const { violations, packages, files, references } = inspectHouse(resolve(process.argv[2] ?? repositoryRoot));
  for (const { file, line, rule, advice } of violations) console.log(`${file}:${line} ${rule} — ${advice}`);
  console.log(`${packages} packages, ${files} files, ${references} imports: ${violations.length} violations`);
  process.exitCode = violations.length > 0 ? 1 : 0;
}
