import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { CliFailure, EXIT } from '../exit.ts';

/** Who listens on a port, as far as this system tells. */
export interface PortOwner {
  readonly pid: number;
  /** Its command line, shortened. */
  readonly command: string;
}

/** Whether this process could listen there now. */
export function isPortFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host }, () => server.close(() => resolve(true)));
  });
}

/** The process that listens on a TCP port of this machine; undefined where /proc does not tell or it is another user's. */
export function portOwner(port: number): PortOwner | undefined {
  const inodes = listeningInodes(port);
  if (inodes.size === 0) return undefined;
  for (const entry of list('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    for (const descriptor of list(`/proc/${entry}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(link(`/proc/${entry}/fd/${descriptor}`))?.[1];
      if (inode !== undefined && inodes.has(inode)) return { pid: Number(entry), command: commandOf(entry) };
    }
  }
  return undefined;
}

/** Throws a failure that says who has the port and what to do. 0 is always free. */
export async function requireFreePort(port: number): Promise<void> {
  if (port === 0 || (await isPortFree(port))) return;
  const owner = portOwner(port);
  const by = owner === undefined ? 'another process' : `pid ${owner.pid}: ${owner.command}`;
  throw new CliFailure(EXIT.failed, `port ${port} on 127.0.0.1 is taken by ${by}`, [
    'let Baton choose a free one: set BATON_PORT=0, such as `BATON_PORT=0 npm start` or `baton up --port 0`',
    'if that is a Baton: `baton stop` in its directory ends it',
  ]);
}

const LISTENING = '0A';

function listeningInodes(port: number): Set<string> {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of read(table).split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[3] === LISTENING && fields[1]?.endsWith(`:${wanted}`)) inodes.add(fields[9]!);
    }
  }
  return inodes;
}

function commandOf(pid: string): string {
  const words = read(`/proc/${pid}/cmdline`)
    .split('\0')
    .filter((word) => word !== '');
  return words.join(' ').slice(0, 120) || read(`/proc/${pid}/comm`).trim();
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
