import type { EventTypeName } from '@baton/client';
import type { CommonFlags } from '../flags.ts';

export interface EventsFlags extends CommonFlags {
  readonly type?: readonly EventTypeName[];
  readonly task?: readonly string[];
  readonly run?: readonly string[];
  readonly since?: number | Date;
  readonly cursor?: string;
  readonly limit?: number;
}

// Written out and not taken from the client, which is loaded only by commands that call a server. A test compares them.
export const EVENT_TYPES = [
  'task_submitted',
  'task_ready',
  'task_leased',
  'task_backoff',
  'task_succeeded',
  'task_failed',
  'task_cancelled',
  'task_released',
  'run_started',
  'run_advanced',
  'run_ended',
  'worker_registered',
  'worker_lost',
  'worker_left',
  'task_cancel_requested',
  'checkpoint_saved',
  'breaker_opened',
  'breaker_half_opened',
  'breaker_closed',
  'queue_paused',
  'queue_resumed',
] as const satisfies EventTypeName[];
