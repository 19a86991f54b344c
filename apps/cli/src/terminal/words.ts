import type { Style } from './screen.ts';
import type { Cell } from './table.ts';

// A state is shown as a glyph and a word, so that it can be told without colours.
const STATES: Readonly<Record<string, readonly [glyph: string, style: Style | undefined]>> = {
  scheduled: ['◷', 'dim'],
  blocked: ['‖', 'yellow'],
  pending: ['○', 'dim'],
  ready: ['○', 'cyan'],
  leased: ['●', 'cyan'],
  running: ['●', 'cyan'],
  backoff: ['↻', 'yellow'],
  succeeded: ['✓', 'green'],
  failed: ['✗', 'red'],
  cancelled: ['⊘', 'yellow'],
  skipped: ['–', 'dim'],
  connecting: ['○', 'dim'],
  idle: ['○', 'green'],
  busy: ['●', 'cyan'],
  draining: ['◐', 'yellow'],
  stopped: ['–', 'dim'],
  lost: ['✗', 'red'],
  closed: ['●', 'green'],
  open: ['⊘', 'red'],
  half_open: ['◐', 'yellow'],
};

export function stateCell(state: string): Exclude<Cell, string | number | undefined> {
  const [glyph, style] = STATES[state] ?? ['?', undefined];
  return { text: `${glyph} ${state}`, style };
}

/** How long something took or has been going on: `0.4 s`, `12.3 s`, `3 min 20 s`. Undefined before it began. */
export function durationText(start: Date | undefined, end: Date | undefined, nowMs: number): string | undefined {
  if (start === undefined) return undefined;
  const ms = Math.max(0, (end?.getTime() ?? nowMs) - start.getTime());
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}

/** A point in time in the reader's own zone: `2026-11-22 13:30:05`. */
export function timeText(time: Date | undefined): string | undefined {
  if (time === undefined) return undefined;
  const two = (value: number): string => String(value).padStart(2, '0');
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}
