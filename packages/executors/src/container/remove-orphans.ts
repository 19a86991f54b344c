import type Docker from 'dockerode';
import { type ContainerOwner, LABEL } from './container-config.ts';
import { statusOf } from './pull-image.ts';

/**
 * Removes containers whose worker is gone: those of earlier lives of this worker, and those of processes of this machine that are
 * no more. Their leases have ended, or will; what they still did would be nobody's.
 */
export async function removeOrphans(
  docker: Docker,
  owner: ContainerOwner,
  log?: { info(message: string, fields?: object): void },
): Promise<void> {
  const found = await docker.listContainers({ all: true, filters: JSON.stringify({ label: [LABEL.instance] }) });
  const orphans = found.filter(({ Labels }) => {
    if (Labels[LABEL.instance] === owner.instance) return false;
    if (Labels[LABEL.host] !== owner.host) return false;
    // The same name: there is one such worker at a time, and this is it.
    return Labels[LABEL.worker] === owner.worker || !isAlive(Number(Labels[LABEL.pid]));
  });
  await Promise.all(
    orphans.map(async ({ Id, Labels }) => {
      try {
        await docker.getContainer(Id).remove({ force: true, v: true });
        log?.info('container of an earlier life removed', { container: Id, task_id: Labels[LABEL.task] });
      } catch (error) {
        // Another worker of this machine was faster.
        if (statusOf(error) !== 404 && statusOf(error) !== 409) throw error;
      }
    }),
  );
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
