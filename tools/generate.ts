/**
 * Generates packages/contract/src/gen from the protos, offline.
 *
 *   node tools/generate.ts           writes what changed, removes what has no source any more
 *   node tools/generate.ts --check   writes nothing; names each stale file and exits 1
 *
 * Both generate into a temporary directory first, so a proto that does not compile leaves the folder as it was, and a
 * process that is just reading the folder never finds it empty.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative, sep } from 'node:path';

interface StaleFile {
  /** Relative to the generated folder. */
  file: string;
  reason: 'missing' | 'differs' | 'no proto for it';
}

/** Where generated code lies, relative to the repository. buf.gen.yaml says the same. */
export const GENERATED = join('packages', 'contract', 'src', 'gen');

/** Runs a tool of node_modules/.bin (or of the PATH). Returns its exit code and all that it printed. */
export function runTool(root: string, command: string, args: readonly string[]): { code: number; output: string } {
  const bins = [join(root, 'node_modules', '.bin'), join(import.meta.dirname, '..', 'node_modules', '.bin')];
  const path = [...bins, process.env.PATH ?? ''].join(delimiter);
  const done = spawnSync(command, args, { cwd: root, env: { ...process.env, PATH: path }, encoding: 'utf8' });
  if (done.error) return { code: 127, output: `${command}: ${done.error.message} (npm install brings it)\n` };
  return { code: done.status ?? 1, output: `${done.stdout}${done.stderr}` };
}

function filesUnder(directory: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  let entries: ReturnType<typeof listing>;
  try {
    entries = listing(directory);
  } catch {
    return found; // nothing generated yet
  }
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    found.set(relative(directory, path).split(sep).join('/'), readFileSync(path));
  }
  return found;
}
const listing = (directory: string) => readdirSync(directory, { recursive: true, withFileTypes: true });

/** Compares what the protos give with what lies in the folder. */
function compareGenerated(fresh: Map<string, Buffer>, present: Map<string, Buffer>): StaleFile[] {
  const stale: StaleFile[] = [];
  for (const [file, content] of fresh) {
    const old = present.get(file);
    if (!old) stale.push({ file, reason: 'missing' });
    else if (!old.equals(content)) stale.push({ file, reason: 'differs' });
  }
  for (const file of present.keys()) if (!fresh.has(file)) stale.push({ file, reason: 'no proto for it' });
  return stale.sort((a, b) => a.file.localeCompare(b.file));
}

/** Brings the folder up to date, or with `check` only says what is stale. Returns the exit code. */
export function generate(root: string, check: boolean, print: (line: string) => void): number {
  const out = mkdtempSync(join(tmpdir(), 'baton-generate-'));
  try {
    const { code, output } = runTool(root, 'buf', ['generate', '--output', out]);
    if (code !== 0) {
      print(output.trimEnd());
      print('The protos do not compile; nothing was changed.');
      return 1;
    }
    const target = join(root, GENERATED);
    const fresh = filesUnder(join(out, GENERATED));
    const stale = compareGenerated(fresh, filesUnder(target));
    if (check) {
      for (const { file, reason } of stale) print(`${join(GENERATED, file)}: ${reason}`);
      print(
        stale.length > 0
          ? 'Generated code is stale. Fix: npm run generate'
          : `${fresh.size} generated files, none stale`,
      );
      return stale.length > 0 ? 1 : 0;
    }
    for (const { file, reason } of stale) {
      const path = join(target, file);
      if (reason === 'no proto for it') {
        rmSync(path);
        continue;
      }
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, fresh.get(file)!);
    }
    print(`${fresh.size} generated files, ${stale.length} changed`);
    return 0;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  process.exitCode = generate(join(import.meta.dirname, '..'), process.argv.includes('--check'), (line) =>
    console.log(line),
  );
}
