import type { BreakerView } from '@baton/client';
import type { CliContext } from '../context.ts';
import { type Cell, printTable } from '../terminal/table.ts';
import { stateCell } from '../terminal/words.ts';
import { healthCell } from './machine-words.ts';
import type { ListFlags } from './worker-flags.ts';

/** `baton worker list`. */
export async function list(this: CliContext, flags: ListFlags): Promise<void> {
  const baton = await this.connect(flags);
  const [workers, breakers] = await Promise.all([
    baton.workers.list({ includeGone: flags.all, signal: this.signal }).all(),
    baton.workers.breakers({ signal: this.signal }).catch(noneOfOlderMaster),
  ]);
  if (flags.output === 'json') {
    this.screen.json(
      workers.map((worker) => ({ ...worker, breakers: breakers.filter((b) => b.worker === worker.name) })),
    );
    return;
  }
  if (workers.length === 0) {
    this.screen.note('no worker is there; start one with `baton worker`');
    return;
  }
  printTable(
    this.screen,
    [
      'WORKER',
      'STATE',
      'BREAKER',
      'HEALTH',
      'LEASES',
      'SLOTS',
      'CLASSES',
      'GPUS',
      'CPU',
      'DONE',
      'FAILED',
      'HEARD',
      'WHERE',
    ],
    workers.map((worker) => [
      worker.name,
      stateCell(worker.state),
      breakerText(breakers.filter((breaker) => breaker.worker === worker.name)),
      healthCell(worker.health),
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

/** A master of the version before knows no breakers; its workers are listed all the same. */
function noneOfOlderMaster(thrown: unknown): readonly BreakerView[] {
  if ((thrown as { code?: unknown }).code === 'unimplemented') return [];
  throw thrown;
}

/** Its own breaker by its state, those of its devices by their number. */
function breakerText(breakers: readonly BreakerView[]): Cell {
  const own = breakers.find((breaker) => breaker.device === undefined);
  const devices = breakers.length - (own ? 1 : 0);
  const parts = [own && stateCell(own.state).text, devices > 0 && `${devices} of its devices`].filter(Boolean);
  return parts.length === 0 ? undefined : { text: parts.join(', '), style: 'red' };
}

/** A worker that names no class takes these two. */
function classesText(classes: readonly string[]): string {
  return (classes.length === 0 ? ['cpu_short', 'cpu_long'] : classes).join(' ');
}

function gpuText(gpus: readonly { readonly simulated: boolean }[]): string | undefined {
  if (gpus.length === 0) return undefined;
  return gpus.some((gpu) => gpu.simulated) ? `${gpus.length} (simulated)` : String(gpus.length);
}
