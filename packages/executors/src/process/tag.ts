import { randomBytes } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { hasProcessTable, readEnvironment, readStat } from '../process/process-table.ts';

/** The variable by which the processes of a task are known, however they are related to the one that was started. */
export const TAG_VARIABLE = 'BATON_TASK_TAG';

/** Names the worker's process: what lives on after it is left over. */
export interface Owner {
  /** The namespace of its pid: another one's numbers mean nothing here. */
  readonly pidNamespace: string;
  readonly pid: number;
  readonly startTicks: number;
  /** Tells two executors of one process apart. */
  readonly nonce: string;
}

export function ownOwner(): Owner {
  return {
    pidNamespace: pidNamespaceOf('self'),
    pid: process.pid,
    startTicks: readStat(process.pid)?.startTicks ?? 0,
    nonce: randomBytes(6).toString('hex'),
  };
}

/** The beginning of the tags of all that an owner starts. */
export function ownerPrefix({ pidNamespace, pid, startTicks, nonce }: Owner): string {
  return `v1.${pidNamespace}.${pid}.${startTicks}.${nonce}.`;
}

/** The tag of one program. `name`: letters, digits and dashes. */
export function tagOf(owner: Owner, name: string): string {
  return `${ownerPrefix(owner)}${name}.`;
}

/** The beginning of the names of an owner's directories. */
export function directoryPrefix({ pidNamespace, pid, startTicks }: Owner): string {
  return `task-${pidNamespace}.${pid}.${startTicks}-`;
}

/** Whether a directory is that of an owner which lived here and is gone. */
export function isLeftoverDirectory(name: string): boolean {
  const match = /^task-(\d+)\.(\d+)\.(\d+)-/.exec(name);
  if (!hasProcessTable || match === null || match[1] !== pidNamespaceOf('self')) {
    return false;
  }
  return !isAlive({ pidNamespace: match[1], pid: Number(match[2]), startTicks: Number(match[3]), nonce: '' });
}

/** Reads the owner out of a tag; undefined for what is none. */
export function ownerOf(tag: string): Owner | undefined {
  const match = /^v1\.(\d+)\.(\d+)\.(\d+)\.([0-9a-f]+)\./.exec(tag);
  return match
    ? { pidNamespace: match[1]!, pid: Number(match[2]), startTicks: Number(match[3]), nonce: match[4]! }
    : undefined;
}

/** The tag that a process was started with; undefined where there is none, or it may not be read. */
export function tagOfProcess(pid: number): string | undefined {
  const environment = readEnvironment(pid);
  const key = `${TAG_VARIABLE}=`;
  const at = environment.startsWith(key) ? 0 : environment.indexOf(`\0${key}`) + 1;
  if (at === 0 && !environment.startsWith(key)) {
    return undefined;
  }
  const end = environment.indexOf('\0', at);
  return environment.slice(at + key.length, end < 0 ? undefined : end);
}

/** A number in Linux; 0 where there are no namespaces. */
export function pidNamespaceOf(pid: number | 'self'): string {
  if (!hasProcessTable) {
    return '0';
  }
  try {
    return /\d+/.exec(readlinkSync(`/proc/${pid}/ns/pid`))?.[0] ?? '0';
  } catch {
    return '0';
  }
}

/** Whether the process that an owner names lives. */
export function isAlive({ pid, startTicks }: Owner): boolean {
  const stat = readStat(pid);
  return stat !== undefined && stat.startTicks === startTicks && stat.state !== 'Z';
}
