import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Cgroup, listCgroups } from '../process/cgroup.ts';
import { hasProcessTable, listPids, readStat } from '../process/process-table.ts';
import { sendTo } from '../process/process-tree.ts';
import { isAlive, isLeftoverDirectory, type Owner, ownerOf, pidNamespaceOf, tagOfProcess } from './tag.ts';

/**
 * Kills what workers of this machine have left over that are gone themselves: processes that carry the tag of a worker which no longer
 * lives, and cgroups of theirs. Resolves with the number of processes killed. Those of living workers, and of other containers, stay.
 */
export async function killLeftovers(cgroupHome: string | undefined, timeoutMs = 10_000): Promise<number> {
  if (!hasProcessTable) {
    return 0;
  }
  const here = pidNamespaceOf('self');
  const isOver = (owner: Owner | undefined): boolean =>
    owner !== undefined && owner.pidNamespace === here && !isAlive(owner);
  const killed = new Set<string>();
  const until = performance.now() + timeoutMs;
  for (;;) {
    let left = 0;
    for (const name of cgroupHome === undefined ? [] : listCgroups(cgroupHome)) {
      if (isOver(ownerOf(name))) {
        const group = new Cgroup(cgroupHome!, name);
        for (const pid of group.members()) {
          killed.add(`${pid} ${readStat(pid)?.startTicks}`);
          left++;
        }
        group.kill();
        group.remove();
      }
    }
    for (const pid of listPids()) {
      const tag = tagOfProcess(pid);
      if (tag !== undefined && isOver(ownerOf(tag)) && pidNamespaceOf(pid) === here && pid !== process.pid) {
        killed.add(`${pid} ${readStat(pid)?.startTicks}`);
        left++;
        sendTo(pid, 'SIGKILL');
      }
    }
    if (left === 0 || performance.now() > until) {
      return killed.size;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Removes what attempts of workers that are gone had left in their directories. Never rejects. */
export async function removeLeftovers(root: string): Promise<void> {
  const names = await readdir(root).catch(() => []);
  for (const name of names.filter(isLeftoverDirectory)) {
    await rm(join(root, name), { recursive: true, force: true }).catch(() => {});
  }
}
