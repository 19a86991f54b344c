import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Nor are registries asked for what no test is about. */
const NPM_ASKS_NOBODY = { npm_config_update_notifier: 'false', npm_config_audit: 'false', npm_config_fund: 'false' };

/** What a terminal of a user has: the Node of this process, npm's own settings, nothing of Baton and of the test run. */
export function userEnvironment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const ours =
    /^(BATON_|DATABASE_URL$|LOG_DIR$|INIT_CWD$|NODE_ENV$|NODE_COMPILE_CACHE$|TEST$|VITEST|npm_(package|lifecycle|config_local_prefix))/;
  const kept = Object.entries(process.env).filter(([name]) => !ours.test(name));
  const path = `${dirname(process.execPath)}:${process.env.PATH}`;
  return { ...Object.fromEntries(kept), PATH: path, NO_COLOR: '1', ...NPM_ASKS_NOBODY, ...more };
}

export function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  return spawn(command, args, { env: userEnvironment(), stdio: ['ignore', 'pipe', 'pipe'], ...options });
}

/** Runs a command to its end. */
export async function run(command: string, args: readonly string[], options: SpawnOptions): Promise<Ended> {
  const child = start(command, args, { timeout: 120_000, ...options });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

/** The same, for what must succeed. */
export async function runWell(command: string, args: readonly string[], options: SpawnOptions): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, options);
  if (code !== 0) throw new CommandFailed(`${command} ${args.join(' ')} ended with ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/** A command that had to succeed did not. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
}
