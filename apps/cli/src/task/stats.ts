import type { CliContext } from '../context.ts';
import { printTable } from '../terminal/table.ts';
import type { StatsFlags } from './failure-flags.ts';

/** `baton task stats`. */
export async function stats(this: CliContext, flags: StatsFlags): Promise<void> {
  const baton = await this.connect(flags);
  const found = await baton.tasks.failureStatistics({ windowMs: flags.since, signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(found);
    return;
  }
  const { tasksAffected, tasksRecovered, tasksFailed, tasksOpen } = found;
  this.screen.line(
    `${count(found.failures, 'failure')} of ${count(tasksAffected, 'task')} on ${count(found.workersAffected, 'worker')}: ` +
      `${tasksRecovered} recovered, ${tasksFailed} failed for good, ${tasksOpen} under way; ` +
      `${count(found.breakersOpen, 'breaker')} open`,
  );
  if (found.failures === 0) return;
  this.screen.line('');
  printTable(
    this.screen,
    ['TYPE', 'FAILURES'],
    found.byType.map((type) => [type.type, type.count]),
  );
  this.screen.line('');
  printTable(
    this.screen,
    ['WORKER', 'FAILURES', 'MADE BY THE MACHINE'],
    found.byWorker.map((worker) => [worker.worker, worker.count, worker.machineMade]),
  );
}

function count(n: number, what: string): string {
  return n === 1 ? `1 ${what}` : `${n} ${what}s`;
}
