/**
 * Makes an npm tarball of what a user installs: JavaScript and declarations, with every package of this repository that
 * it needs inside, so that nothing but public npm packages is left to install.
 *
 *   node tools/pack.ts <client|worker|cli> [--out DIRECTORY]
 *
 * Server code runs from its .ts files in the repository; Node refuses to strip types under node_modules, hence this.
 * Prints the path of the tarball. What is packed lies in `dist/<package>/…`, as it lay in the repository: relative paths
 * and `new URL('…', import.meta.url)` keep their meaning, and `@baton/x` becomes a relative path.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { runTool } from './generate.ts';
import { TEST_FILE } from './house-rules.ts';
import { mergeManifests, PackError, type PackedManifest } from './pack-manifest.ts';
import { placeOf, rewriteModule, toEmitted } from './pack-rewrite.ts';
import { readWorkspace, repositoryRoot, sourceFiles, type Workspace, type WorkspacePackage } from './workspace.ts';

/** What can be packed: the argument, and the package that it means. */
export const PACKED: Record<string, string> = {
  client: '@baton/client',
  worker: '@baton/worker',
  cli: '@baton/cli',
};

/**
 * Packs a package of the workspace at `root` into a tarball in `out`. Returns the tarball's path.
 * Throws a PackError that names what is missing, does not compile, or is asked for in two versions.
 */
export function pack(root: string, name: string, out: string): string {
  const workspace = readWorkspace(root);
  const entry = workspace.byName.get(name);
  if (!entry) throw new PackError(`there is no package ${name}`);
  const members = withDependencies(workspace, entry);
  const staging = mkdtempSync(join(tmpdir(), 'baton-pack-'));
  try {
    compile(root, members, join(staging, 'emitted'));
    const content = join(staging, 'package');
    for (const member of members) collect(workspace, member, join(staging, 'emitted'), content);
    const manifest = mergeManifests(workspace, entry, members);
    for (const path of promisedFiles(manifest)) {
      if (!existsSync(join(content, path))) throw new PackError(`${name} exports ${path}, which is not there`);
    }
    writeFileSync(join(content, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    cpSync(join(root, 'LICENSE'), join(content, 'LICENSE'));
    writeFileSync(join(content, 'README.md'), readme(root, entry));
    mkdirSync(out, { recursive: true });
    const { code, output } = runTool(content, 'npm', ['pack', '--silent', '--pack-destination', resolve(out)]);
    if (code !== 0) throw new PackError(`npm pack: ${output}`);
    return join(resolve(out), `${name.replace('@', '').replace('/', '-')}-${entry.manifest.version}.tgz`);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** A package and all that it needs of this workspace. */
function withDependencies(workspace: Workspace, entry: WorkspacePackage): WorkspacePackage[] {
  const members = new Set([entry]);
  for (const { manifest } of members) {
    for (const name of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
      const other = workspace.byName.get(name);
      if (other) members.add(other);
    }
  }
  return [...members];
}

const isSource = (file: string): boolean => /\.tsx?$/.test(file) && !file.endsWith('.d.ts');

const filesOf = (root: string, { directory }: WorkspacePackage): string[] =>
  sourceFiles(root, `${directory}/src`).filter((file) => !TEST_FILE.test(file));

/** Compiles what the packages are made of; `emitted` mirrors the repository. */
function compile(root: string, members: readonly WorkspacePackage[], emitted: string): void {
  const project = `${emitted}.tsconfig.json`;
  const options = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: {
      noEmit: false,
      declaration: true,
      noEmitOnError: true,
      rootDir: root,
      outDir: emitted,
      // The project file lies outside of the repository, where the compiler would look for these.
      typeRoots: [join(root, 'node_modules', '@types')],
    },
    include: [],
    files: members
      .flatMap((member) => filesOf(root, member))
      .filter(isSource)
      .map((file) => join(root, file)),
  };
  writeFileSync(project, JSON.stringify(options));
  const { code, output } = runTool(root, 'tsc', ['-p', project]);
  if (code !== 0) throw new PackError(`does not compile:\n${output.trimEnd()}`);
}

/** Puts what was compiled of one package, and what is no code, where it lies in the tarball. */
function collect(workspace: Workspace, member: WorkspacePackage, emitted: string, content: string): void {
  const { root } = workspace;
  const place = (file: string): string => join(content, 'dist', placeOf(workspace, file));
  const all = sourceFiles(root, member.directory);
  const files = filesOf(root, member);
  const assets = all.filter((file) => (files.includes(file) ? !isSource(file) : isAsset(member, file)));
  for (const file of assets) {
    mkdirSync(dirname(place(file)), { recursive: true });
    const module = /\.(m?js|d\.ts)$/.test(file);
    writeFileSync(place(file), module ? rewritten(file, join(root, file)) : readFileSync(join(root, file)));
  }
  for (const source of files.filter(isSource)) {
    for (const file of [toEmitted(source), toEmitted(source, '.d.ts')]) {
      mkdirSync(dirname(place(file)), { recursive: true });
      writeFileSync(place(file), rewritten(file, join(emitted, file)));
    }
  }

  function rewritten(file: string, path: string): string {
    const { code, problems } = rewriteModule(workspace, file, readFileSync(path, 'utf8'), (target) => {
      // A file that code names is needed, whether or not it is among the assets: ../package.json for the version.
      const asset = withoutSlash(target);
      if (!isFile(join(root, asset)) || isSource(asset)) return;
      mkdirSync(dirname(place(asset)), { recursive: true });
      if (!existsSync(place(asset))) cpSync(join(root, asset), place(asset));
    });
    if (problems.length > 0) throw new PackError(problems.join('\n'));
    return code;
  }
}

const withoutSlash = (path: string): string => path.replace(/\/$/, '');

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/** Migrations always travel; what else a package needs at run time it names in `baton.assets` of its package.json. */
function isAsset({ directory, manifest }: WorkspacePackage, file: string): boolean {
  const path = file.slice(directory.length + 1);
  return ['migrations', ...(manifest.baton?.assets ?? [])].some((asset) => {
    const pattern = withoutSlash(asset)
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '[^/]*');
    return new RegExp(`^${pattern}(/|$)`).test(path);
  });
}

function promisedFiles(manifest: PackedManifest): string[] {
  const exported = Object.values(manifest.exports).flatMap((conditions) => Object.values(conditions));
  return [...exported, ...Object.values(manifest.bin ?? {})];
}

function readme(root: string, entry: WorkspacePackage): string {
  const own = join(root, entry.directory, 'README.md');
  if (existsSync(own)) return readFileSync(own, 'utf8');
  return `# ${entry.name}\n\n${entry.manifest.description ?? ''}.\n`;
}

if (import.meta.main) {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } });
  const name = PACKED[positionals[0] ?? ''];
  if (!name || positionals.length > 1) {
    console.error(`usage: node tools/pack.ts <${Object.keys(PACKED).join('|')}> [--out DIRECTORY]`);
    process.exitCode = 64;
  } else {
    try {
      console.log(pack(repositoryRoot, name, values.out ?? '.'));
    } catch (error) {
      if (!(error instanceof PackError)) throw error;
      console.error(error.message);
      process.exitCode = 1;
    }
  }
}
