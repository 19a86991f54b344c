/**
 * Why an attempt has to end before its time:
 * - `cancel`: somebody asked for it; the task ends as cancelled;
 * - `timeout`: its start-to-close time is over; the attempt failed;
 * - `hand-back`: the worker goes; the task goes back to ready;
 * - `lost`: the lease belongs to another by now; whatever comes of it is discarded.
 */
export type StopKind = 'cancel' | 'timeout' | 'hand-back' | 'lost';

/** The reason of an attempt's signal. */
export class TaskStopped extends Error {
  override readonly name = 'TaskStopped';
  readonly kind: StopKind;

  constructor(kind: StopKind, message: string) {
    super(message);
    this.kind = kind;
  }
}
