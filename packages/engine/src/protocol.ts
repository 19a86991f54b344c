/** Of the protocol between masters and workers. N and N−1 run together; 3 knows durable functions. */
export const PROTOCOL_VERSION = 3;
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

/** The tags that a request's own fields make necessary: what protocol 1 has no word for. */
export function protocolTags(request: {
  inputBlob?: string;
  progressTimeoutMs?: number;
  scheduleToStartMs?: number;
}): string[] {
  const { inputBlob, progressTimeoutMs, scheduleToStartMs } = request;
  const isNew = inputBlob !== undefined || progressTimeoutMs !== undefined || scheduleToStartMs !== undefined;
  return isNew ? ['protocol>1'] : [];
}
