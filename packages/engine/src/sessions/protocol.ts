/** Of the protocol between masters and workers. N and N−1 run together; 3 knows durable functions, 4 knows artifacts. */
export const PROTOCOL_VERSION = 4;
export const OLDEST_PROTOCOL_VERSION = 1;

const PATTERN = /^protocol>(\d{1,5})$/;

/**
 * The protocol that a lane's tag asks more than; null where it is a tag like others. A worker that speaks an older one would pass over
 * fields of the lease that these tasks cannot do without. Written as a tag, so that masters of the version before, which know
 * no such tag, leave these tasks to the others.
 */
export function protocolFloor(tag: string): number | null {
  const match = PATTERN.exec(tag);
  return match ? Number(match[1]) : null;
}

/** Of lanes whose tasks are handed files. */
export const ARTIFACTS_TAG = 'protocol>3';

/** The tags that a request's own fields make necessary: what older protocols have no word for. */
export function protocolTags(request: {
  artifacts?: object;
  inputBlob?: string;
  progressTimeoutMs?: number;
  scheduleToStartMs?: number;
}): string[] {
  const { artifacts, inputBlob, progressTimeoutMs, scheduleToStartMs } = request;
  if (artifacts !== undefined) return [ARTIFACTS_TAG];
  const isNew = inputBlob !== undefined || progressTimeoutMs !== undefined || scheduleToStartMs !== undefined;
  return isNew ? ['protocol>1'] : [];
}
