import type { HealthIssueView, WorkerView } from '@baton/client';
import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import type { Screen } from '../terminal/screen.ts';
import { printTable } from '../terminal/table.ts';
import { stateCell, timeText } from '../terminal/words.ts';
import { deviceCell, gibText, healthCell, latencyText, percentText } from './machine-words.ts';

/** `baton worker show NAME`: what it has, and how it is now. */
export async function show(this: CliContext, flags: CommonFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { worker } = await baton.workers.get(name, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(worker);
    return;
  }
  const { screen } = this;
  screen.line({ text: worker.name, style: 'bold' }, '  ', stateCell(worker.state));
  printTable(screen, ['', ''], aboutOf(worker));
  if (worker.tools.length > 0) {
    screen.line('');
    printTable(
      screen,
      ['TOOL', 'VERSION'],
      worker.tools.map((tool) => [tool.name, tool.version]),
    );
  }
  showHealth(screen, worker);
}

function aboutOf(worker: WorkerView): (string | undefined)[][] {
  const system = [worker.os, worker.arch].filter(Boolean).join(' ');
  return [
    ['machine', [worker.hostname, system].filter(Boolean).join(', ') || undefined],
    ['processors', worker.cpus > 0 ? String(worker.cpus) : undefined],
    ['memory', worker.memoryBytes > 0 ? gibText(worker.memoryBytes) : undefined],
    ['slots', `${worker.slots}, ${worker.leases} leases`],
    ['classes', worker.taskClasses.join(' ') || 'cpu_short cpu_long'],
    ['tags', worker.tags.join(' ') || undefined],
    ['queues', worker.queues.join(' ') || 'all'],
    ['executors', worker.executors.join(' ') || undefined],
    ['version', worker.version || undefined],
    ['registered', timeText(worker.registerTime)],
    ['service', worker.serviceUrl],
  ];
}

function showHealth(screen: Screen, { health, gpus }: WorkerView): void {
  screen.line('');
  if (health === undefined) {
    screen.line({ text: 'it has told nothing of its machine', style: 'dim' });
    if (gpus.length > 0) {
      printTable(
        screen,
        ['GPU', 'MODEL', 'MEMORY', 'SIMULATED'],
        gpus.map((gpu) => [gpu.uuid, gpu.model, gibText(gpu.memoryBytes), gpu.simulated ? 'yes' : 'no']),
      );
    }
    return;
  }
  const cell = healthCell(health) as { text: string; style: undefined };
  screen.line(cell, `  ${(health.ageMs / 1_000).toFixed(0)} s ago`);
  for (const issue of health.issues) screen.line({ text: `  ${issueText(issue)}`, style: 'red' });
  for (const gate of health.gates) screen.line({ text: `  gate ${issueText(gate)}`, style: 'yellow' });
  printTable(
    screen,
    ['CPU', 'OF OTHERS', 'MEMORY', 'OF OTHERS', 'DISK', 'TO THE MASTER'],
    [
      [
        percentText(health.cpuPercent),
        percentText(health.foreignCpuPercent),
        percentText(health.memoryPercent),
        percentText(health.foreignMemoryPercent),
        percentText(health.diskPercent),
        latencyText(health.networkLatencyMs),
      ],
    ],
  );
  if (health.gpus.length === 0) return;
  screen.line('');
  if (health.simulated) screen.line({ text: 'its devices are simulated: declared, and not there', style: 'yellow' });
  printTable(
    screen,
    ['GPU', 'MODEL', 'MEMORY', 'USED', 'LOAD', 'TEMP', 'POWER', 'ECC', 'LAST XID', 'STATE'],
    health.gpus.map((gpu) => [
      gpu.simulated ? `${gpu.uuid} (simulated)` : gpu.uuid,
      gpu.model,
      gibText(gpu.memoryBytes),
      gibText(gpu.memoryUsedBytes),
      percentText(gpu.loadPercent),
      gpu.temperatureC === undefined ? undefined : `${gpu.temperatureC.toFixed(0)} °C`,
      gpu.powerWatts === undefined ? undefined : `${gpu.powerWatts.toFixed(0)} W`,
      gpu.eccUncorrected,
      gpu.xids.at(-1)?.xid,
      deviceCell(gpu),
    ]),
  );
}

function issueText({ code, device, message }: HealthIssueView): string {
  return `${code}${device === undefined ? '' : ` ${device}`}: ${message}`;
}
