import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import { stateCell } from '../terminal/words.ts';
import type { ListFlags } from './worker-flags.ts';

/** `baton worker list`. */
export async function list(this: CliContext, flags: ListFlags): Promise<void> {
  const baton = await this.connect(flags);
  const workers = await baton.workers.list({ includeGone: flags.all, signal: this.signal }).all();
  if (flags.output === 'json') {
    this.screen.json(workers);
    return;
  }
  if (workers.length === 0) {
    this.screen.note('no worker is there; start one with `baton worker`');
    return;
  }
  printTable(
    this.screen,
    ['WORKER', 'STATE', 'LEASES', 'SLOTS', 'CLASSES', 'GPUS', 'CPU', 'DONE', 'FAILED', 'HEARD', 'WHERE'],
    workers.map((worker) => [
      worker.name,
      stateCell(worker.state),
      worker.leases,
      worker.slots,
      classesText(worker.taskClasses),
      gpuText(worker.gpus),
      worker.metrics && `${worker.metrics.cpuPercent.toFixed(0)} %`,
      worker.metrics?.tasksCompleted,
      worker.metrics?.tasksFailed,
      worker.lastHeardMs === undefined ? undefined : `${(worker.lastHeardMs / 1_000).toFixed(0)} s ago`,
      worker.hostname && `${worker.hostname}${worker.pid === undefined ? '' : ` pid ${worker.pid}`}`,
    ]),
  );
}

/** A worker that names no class takes these two. */
function classesText(classes: readonly string[]): string {
  return (classes.length === 0 ? ['cpu_short', 'cpu_long'] : classes).join(' ');
}

function gpuText(gpus: readonly { readonly simulated: boolean }[]): string | undefined {
  if (gpus.length === 0) return undefined;
  return gpus.some((gpu) => gpu.simulated) ? `${gpus.length} (simulated)` : String(gpus.length);
}
