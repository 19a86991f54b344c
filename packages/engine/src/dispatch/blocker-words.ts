import type { HeldKind } from '@baton/store';
import { protocolFloor } from '../sessions/protocol.ts';
import { memoryFloor, memoryText } from './memory-floor.ts';

/** A missing capability in words: `tag:ssd` is `the tag ssd`. */
export function wordsFor(missing: string): string {
  const memory = memoryFloor(missing);
  if (memory) return `more than ${memoryText(memory.bytes)} of ${memory.of === 'memory' ? 'memory' : 'GPU memory'}`;
  const protocol = protocolFloor(missing);
  if (protocol !== null) return `a version of Baton that speaks protocol ${protocol + 1}`;
  const amount = /^(cpus|memory|gpus|gpu_memory)>=([\d.]+)$/.exec(missing);
  if (amount) return amountWords(amount[1]!, Number(amount[2]));
  const colon = missing.indexOf(':');
  const [what, name] = [missing.slice(0, colon), missing.slice(colon + 1)];
  if (what === 'tag' && name.startsWith('worker:')) return `the name ${name.slice('worker:'.length)}`;
  if (what === 'os') return `the system ${name.replaceAll('|', ' or ')}`;
  if (what === 'gpu_model') return `enough GPUs of the model ${name}`;
  if (what === 'selector') return `what its selector asks for: ${name}`;
  return `the ${what.replace('_', ' ')} ${name}`;
}

function amountWords(of: string, amount: number): string {
  if (of === 'cpus') return `${amount} CPUs`;
  if (of === 'gpus') return amount === 1 ? 'a GPU' : `${amount} GPUs`;
  return `${memoryText(amount)} of ${of === 'memory' ? 'memory' : 'GPU memory on each device'}`;
}

/** What a worker holds, by kind. */
export function heldText(held: readonly HeldKind[], nowMs: number): string {
  if (held.length === 0) return '';
  const kinds = held.slice(0, 3).map((h) => `${h.count} × ${h.kind}`);
  if (held.length > 3) kinds.push('…');
  const oldest = Math.min(...held.map((h) => h.since.getTime()));
  return ` (${kinds.join(', ')}; the oldest for ${durationText(nowMs - oldest)})`;
}

export function listOf(items: readonly string[]): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}

/** To the second, UTC. */
export function timeText(at: Date): string {
  return `${at.toISOString().slice(0, 19)}Z`;
}

export function inText(ms: number): string {
  return ms > 0 ? `in ${durationText(ms)}` : 'now';
}

export function durationText(ms: number): string {
  if (ms < 60_000) return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}
