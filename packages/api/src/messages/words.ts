/** The contract's enums and the words that are stored, each way. */
import {
  AttemptState,
  BreakerState,
  FailureType,
  NodeState,
  RunState,
  TaskClass,
  TaskState,
  WorkerState,
} from '@baton/contract';
import type {
  BreakerState as BreakerWord,
  TaskClass as ClassWord,
  FailureType as FailureWord,
  TaskState as StateWord,
} from '@baton/domain';

export const taskStates: Record<StateWord, TaskState> = {
  scheduled: TaskState.SCHEDULED,
  blocked: TaskState.BLOCKED,
  ready: TaskState.READY,
  leased: TaskState.LEASED,
  backoff: TaskState.BACKOFF,
  succeeded: TaskState.SUCCEEDED,
  failed: TaskState.FAILED,
  cancelled: TaskState.CANCELLED,
};

export const taskClasses: Record<ClassWord, TaskClass> = {
  cpu_short: TaskClass.CPU_SHORT,
  cpu_long: TaskClass.CPU_LONG,
  gpu: TaskClass.GPU,
  gpu_slurm: TaskClass.GPU_SLURM,
};

export const failureTypes: Record<FailureWord, FailureType> = {
  WORKER_CRASH: FailureType.WORKER_CRASH,
  NETWORK_ERROR: FailureType.NETWORK_ERROR,
  EVALUATION_ERROR: FailureType.EVALUATION_ERROR,
  TASK_TIMEOUT: FailureType.TASK_TIMEOUT,
  OUT_OF_MEMORY: FailureType.OUT_OF_MEMORY,
  GPU_ERROR: FailureType.GPU_ERROR,
  UNKNOWN: FailureType.UNKNOWN,
};

export const attemptStates = {
  running: AttemptState.RUNNING,
  succeeded: AttemptState.SUCCEEDED,
  failed: AttemptState.FAILED,
  cancelled: AttemptState.CANCELLED,
  lost: AttemptState.LOST,
  returned: AttemptState.RETURNED,
} as const;

export const breakerStates: Record<BreakerWord, BreakerState> = {
  closed: BreakerState.CLOSED,
  open: BreakerState.OPEN,
  half_open: BreakerState.HALF_OPEN,
};

export const runStates = {
  pending: RunState.PENDING,
  running: RunState.RUNNING,
  waiting: RunState.WAITING,
  succeeded: RunState.SUCCEEDED,
  failed: RunState.FAILED,
  cancelled: RunState.CANCELLED,
} as const;

export const nodeStates = {
  pending: NodeState.PENDING,
  running: NodeState.RUNNING,
  succeeded: NodeState.SUCCEEDED,
  failed: NodeState.FAILED,
  cancelled: NodeState.CANCELLED,
  skipped: NodeState.SKIPPED,
} as const;

/** What a master knows of a worker; idle or busy is told by its leases. */
export function workerState(state: 'active' | 'draining' | 'closed' | 'lost', leases: number): WorkerState {
  if (state === 'lost') return WorkerState.LOST;
  if (state === 'closed') return WorkerState.STOPPED;
  if (state === 'draining') return WorkerState.DRAINING;
  return leases > 0 ? WorkerState.BUSY : WorkerState.IDLE;
}

/** The stored word of an enum's number; undefined for UNSPECIFIED and what is not known. */
export function wordOf<W extends string, N extends number>(table: Record<W, N>, value: N): W | undefined {
  for (const word in table) if (table[word] === value) return word;
  return undefined;
}
