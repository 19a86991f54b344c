import type { HealthSampleView } from '@baton/client';
import type { CliContext } from '../context.ts';
import { type Cell, printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';
import { gibText, healthCell, latencyText, percentText } from './machine-words.ts';
import type { HealthFlags } from './worker-flags.ts';

/** `baton worker health NAME`: how its machine has been, minute by minute. */
export async function health(this: CliContext, flags: HealthFlags, name: string): Promise<void> {
  const baton = await this.connect(flags);
  const { worker, history } = await baton.workers.get(name, { historyMinutes: flags.minutes, signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json({ name: worker.name, health: worker.health, history });
    return;
  }
  const { screen } = this;
  if (worker.health === undefined && history.length === 0) {
    screen.note(`worker ${worker.name} has told nothing of its machine`);
    return;
  }
  const now = healthCell(worker.health);
  screen.line({ text: worker.name, style: 'bold' }, '  ', typeof now === 'object' ? now : 'not known now');
  if (worker.health?.simulated) screen.line({ text: 'its devices are simulated', style: 'yellow' });
  for (const { code, device, message } of worker.health?.issues ?? []) {
    screen.line({ text: `  ${code}${device === undefined ? '' : ` ${device}`}: ${message}`, style: 'red' });
  }
  const devices = [...new Set(history.flatMap((sample) => sample.gpus.map((gpu) => gpu.uuid)))];
  printTable(
    screen,
    ['MINUTE', 'HEALTH', 'CPU', 'OF OTHERS', 'MEMORY', 'DISK', 'MASTER', ...devices],
    history.map((sample) => rowOf(sample, devices)),
  );
}

function rowOf(sample: HealthSampleView, devices: readonly string[]): Cell[] {
  return [
    timeText(sample.time),
    sample.healthy ? { text: '✓ well', style: 'green' } : { text: `✗ ${sample.issues.join(' ')}`, style: 'red' },
    percentText(sample.cpuPercent),
    percentText(sample.foreignCpuPercent),
    percentText(sample.memoryPercent),
    percentText(sample.diskPercent),
    latencyText(sample.networkLatencyMs),
    ...devices.map((uuid) => {
      const gpu = sample.gpus.find((each) => each.uuid === uuid);
      if (gpu === undefined) return undefined;
      const temperature = gpu.temperatureC === undefined ? undefined : `${gpu.temperatureC.toFixed(0)} °C`;
      return [percentText(gpu.loadPercent), temperature, gibText(gpu.memoryUsedBytes)].filter(Boolean).join(' ');
    }),
  ];
}
