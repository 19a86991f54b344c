/** Numbers of baton.v1.EventType, as they are stored in baton.events.types. A test compares them with the contract. */
export const EVENT = {
  taskSubmitted: 1,
  taskReady: 2,
  taskLeased: 3,
  taskBackoff: 4,
  taskSucceeded: 5,
  taskFailed: 6,
  taskCancelled: 7,
  taskReleased: 8,
  runStarted: 9,
  runAdvanced: 10,
  runEnded: 11,
  workerRegistered: 12,
  workerLost: 13,
  workerLeft: 14,
  taskCancelRequested: 15,
} as const;
export type EventTypeName = keyof typeof EVENT;
