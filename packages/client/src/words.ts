import {
  type AttemptState,
  AttemptState as AttemptStates,
  type BreakerState,
  BreakerState as BreakerStates,
  type EventType,
  EventType as EventTypes,
  type FailureType,
  FailureType as FailureTypes,
  type NodeState,
  NodeState as NodeStates,
  type RunState,
  RunState as RunStates,
  type TaskClass,
  TaskClass as TaskClasses,
  type TaskState,
  TaskState as TaskStates,
  type WorkerState,
  WorkerState as WorkerStates,
} from '@baton/contract';

// The contract's enumerations as the words that people read and type: `TASK_STATE_READY` is 'ready'.

type Words<Enum extends Record<string, string | number>> = Lowercase<Exclude<keyof Enum & string, 'UNSPECIFIED'>>;

export type TaskStateName = Words<typeof TaskStates>;
export type TaskClassName = Words<typeof TaskClasses>;
/** Kept in capitals, as in logs and documents: WORKER_CRASH, NETWORK_ERROR, … */
export type FailureTypeName = Exclude<keyof typeof FailureTypes, 'UNSPECIFIED'>;
export type AttemptStateName = Words<typeof AttemptStates>;
export type RunStateName = Words<typeof RunStates>;
export type NodeStateName = Words<typeof NodeStates>;
export type WorkerStateName = Words<typeof WorkerStates>;
export type BreakerStateName = Words<typeof BreakerStates>;
export type EventTypeName = Words<typeof EventTypes>;

// A number that this version does not know (a newer server's) reads 'unknown' in the same way in all of them.
type NumericEnum = Record<string, string | number>;

function toWord<Name extends string>(numbers: NumericEnum, value: number): Name {
  return String(numbers[value] ?? 'unknown').toLowerCase() as Name;
}

function fromWord<Value extends number>(numbers: NumericEnum, word: string): Value {
  return numbers[word.toUpperCase()] as Value;
}

function wordsOf<Name extends string>(numbers: NumericEnum): readonly Name[] {
  return Object.keys(numbers)
    .filter((key) => Number.isNaN(Number(key)) && key !== 'UNSPECIFIED')
    .map((key) => key.toLowerCase() as Name);
}

export const taskStateName = (state: TaskState): TaskStateName => toWord(TaskStates, state);
export const taskClassName = (taskClass: TaskClass): TaskClassName => toWord(TaskClasses, taskClass);
export const attemptStateName = (state: AttemptState): AttemptStateName => toWord(AttemptStates, state);
export const runStateName = (state: RunState): RunStateName => toWord(RunStates, state);
export const nodeStateOf = (name: NodeStateName): NodeState => fromWord(NodeStates, name);
export const nodeStateName = (state: NodeState): NodeStateName => toWord(NodeStates, state);
export const workerStateName = (state: WorkerState): WorkerStateName => toWord(WorkerStates, state);
export const breakerStateName = (state: BreakerState): BreakerStateName => toWord(BreakerStates, state);
export const eventTypeName = (type: EventType): EventTypeName => toWord(EventTypes, type);
export const failureTypeName = (type: FailureType): FailureTypeName =>
  (FailureTypes[type] === 'UNSPECIFIED' ? 'UNKNOWN' : (FailureTypes[type] ?? 'UNKNOWN')) as FailureTypeName;

export const taskStateOf = (name: TaskStateName): TaskState => fromWord(TaskStates, name);
export const taskClassOf = (name: TaskClassName): TaskClass => fromWord(TaskClasses, name);
export const runStateOf = (name: RunStateName): RunState => fromWord(RunStates, name);
export const eventTypeOf = (name: EventTypeName): EventType => fromWord(EventTypes, name);

/** Every word, in the order of the contract. */
export const taskStateNames: readonly TaskStateName[] = wordsOf(TaskStates);
export const taskClassNames: readonly TaskClassName[] = wordsOf(TaskClasses);
export const runStateNames: readonly RunStateName[] = wordsOf(RunStates);
/** In capitals, as they are shown. */
export const failureTypeNames: readonly FailureTypeName[] = Object.keys(FailureTypes).filter(
  (key): key is FailureTypeName => Number.isNaN(Number(key)) && key !== 'UNSPECIFIED',
);
export const eventTypeNames: readonly EventTypeName[] = wordsOf(EventTypes);

export const isFinalTaskState = (name: TaskStateName): boolean =>
  name === 'succeeded' || name === 'failed' || name === 'cancelled';
export const isFinalNodeState = (name: NodeStateName): boolean => name !== 'pending' && name !== 'running';
export const isFinalRunState = (name: RunStateName): boolean =>
  name === 'succeeded' || name === 'failed' || name === 'cancelled';
