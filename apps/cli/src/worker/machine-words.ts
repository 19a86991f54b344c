import type { GpuHealthView, MachineHealthView } from '@baton/client';
import type { Cell } from '../terminal/table.ts';

const gib = 1024 ** 3;

/** `✓ well`, or how many issues there are; undefined: it has told nothing. */
export function healthCell(health: MachineHealthView | undefined): Cell {
  if (health === undefined) return undefined;
  const closed = health.gates.some((gate) => gate.device === undefined) ? ', gate closed' : '';
  if (health.healthy) return { text: `✓ well${closed}`, style: closed === '' ? 'green' : 'yellow' };
  const count = health.issues.length;
  return { text: `✗ ${count} ${count === 1 ? 'issue' : 'issues'}${closed}`, style: 'red' };
}

export function percentText(value: number | undefined): string | undefined {
  return value === undefined ? undefined : `${value.toFixed(0)} %`;
}

export function gibText(bytes: number | undefined): string | undefined {
  return bytes === undefined ? undefined : `${(bytes / gib).toFixed(1)} GiB`;
}

export function latencyText(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : `${ms.toFixed(1)} ms`;
}

/** Whether tasks may be given it, or why not. */
export function deviceCell({ usable, reason }: GpuHealthView): Cell {
  return usable ? { text: '✓ usable', style: 'green' } : { text: `✗ ${reason ?? 'not usable'}`, style: 'red' };
}
