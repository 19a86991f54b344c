import { WorkerState } from '@baton/contract';
import type { Session } from './session.ts';

/** Where the worker stands. Each state owns what it needs. */
export type State =
  | { readonly kind: 'new' }
  /** Asks a master for a session; `abort` ends that. */
  | { readonly kind: 'connecting'; readonly abort: AbortController }
  | { readonly kind: 'registered'; readonly session: Session }
  /** The master let go of the session; the next one is due. */
  | { readonly kind: 'lost'; readonly reason: string; readonly abort: AbortController }
  /** Finishes what it holds. `hurry` ends the grace. */
  | {
      readonly kind: 'draining';
      readonly session: Session | undefined;
      readonly reason: string;
      readonly hurry: AbortController;
    }
  | { readonly kind: 'stopped'; readonly reason: string };

/** The state in one word, as people and `WorkerService` see it. */
export type StateName = 'connecting' | 'idle' | 'busy' | 'draining' | 'stopped' | 'lost';

/** What may follow what. */
export const transitions: Readonly<Record<State['kind'], readonly State['kind'][]>> = {
  new: ['connecting', 'stopped'],
  connecting: ['registered', 'draining'],
  registered: ['lost', 'draining'],
  lost: ['connecting', 'draining'],
  draining: ['stopped'],
  stopped: [],
};

export function stateName(state: State): StateName {
  switch (state.kind) {
    case 'new':
      return 'connecting';
    case 'registered':
      return state.session.work.running > 0 ? 'busy' : 'idle';
    default:
      return state.kind;
  }
}

export const workerStates: Readonly<Record<StateName, WorkerState>> = {
  connecting: WorkerState.CONNECTING,
  idle: WorkerState.IDLE,
  busy: WorkerState.BUSY,
  draining: WorkerState.DRAINING,
  stopped: WorkerState.STOPPED,
  lost: WorkerState.LOST,
};
