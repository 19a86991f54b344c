import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { stopPostgres } from './stop.ts';

/** A directory for a test's clusters; servers whose data is in it are stopped when the test lets go of it. */
export interface TestHome extends AsyncDisposable {
  readonly path: string;
  /** The path of a data directory in it. */
  dataDir(name?: string): string;
}

export async function testHome(): Promise<TestHome> {
  const path = await mkdtemp(join(tmpdir(), 'baton-cluster-'));
  await chmod(path, 0o711);
  const named = new Set<string>();
  return {
    path,
    dataDir(name = 'data') {
      const dataDir = join(path, name);
      named.add(dataDir);
      return dataDir;
    },
    async [Symbol.asyncDispose]() {
      for (const dataDir of named) await stopPostgres(dataDir, { mode: 'immediate' });
      await rm(path, { recursive: true, force: true });
    },
  };
}

/** Runs queries over one connection that is closed afterwards. */
export async function query<T>(url: string, body: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => {} });
  try {
    return await body(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

export interface StarterLine {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly adopted: boolean;
}

/** The program start.fixture.ts as a process of its own. */
export function spawnStarter(dataDir: string, options: { uid?: number; gid?: number; stop?: boolean } = {}) {
  const program = fileURLToPath(new URL('./start.fixture.ts', import.meta.url));
  const { uid, gid } = options;
  const child = spawn(process.execPath, [program, dataDir, ...(options.stop ? ['--stop'] : [])], {
    uid,
    gid,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const line = firstLine(child).then((text) => JSON.parse(text) as StarterLine);
  line.catch(() => {});
  return { child, line, kill: () => killAndWait(child) };
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) return line;
  throw new Error('the program ended without a word');
}

async function killAndWait(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
