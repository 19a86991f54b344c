import { execFile } from 'node:child_process';
import { readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf } from './errors.ts';

/** A live process (zombies do not count): its arguments and, where the system shows it, its working directory. */
export interface ProcessInfo {
  readonly pid: number;
  readonly argv: readonly string[];
  readonly cwd: string | undefined;
}

/** The process with this id, or undefined when there is none or only a zombie that nobody reaped. */
export async function describeProcess(pid: number): Promise<ProcessInfo | undefined> {
  if (!Number.isSafeInteger(pid) || pid <= 0 || !mayExist(pid)) return undefined;
  return process.platform === 'linux' ? describeFromProc(pid) : describeFromPs(pid);
}

/** Whether the process is the postmaster that serves `dataDir` (a real path). */
export function isPostmasterOf(info: ProcessInfo, dataDir: string): boolean {
  if (basename(info.argv[0] ?? '') !== 'postgres') return false;
  // The postmaster changes into its data directory; its arguments are the second-best witness.
  if (info.cwd !== undefined) return info.cwd === dataDir;
  return info.argv.some((argument, index) => argument === dataDir && info.argv[index - 1] === '-D');
}

function mayExist(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

async function describeFromProc(pid: number): Promise<ProcessInfo | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    if (state === 'Z' || state === 'X') return undefined;
    const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').filter((part) => part !== '');
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
    return { pid, argv, cwd };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  }
}

async function describeFromPs(pid: number): Promise<ProcessInfo | undefined> {
  try {
    const { stdout } = await promisify(execFile)('/bin/ps', ['-o', 'stat=,command=', '-p', String(pid)]);
    const [state = '', ...argv] = stdout.trim().split(/\s+/);
    return state === '' || state.startsWith('Z') ? undefined : { pid, argv, cwd: undefined };
  } catch {
    return undefined;
  }
}
