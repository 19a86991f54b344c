import type { Lane } from '@baton/store';

const PREFIX = 'prefers:';
/** Others leave a task to the worker that its lane prefers for so long. */
export const PREFER_MS = 1_500;

/**
 * The tag of lanes whose tasks would best run on one worker, because their files lie there. It asks nothing of anybody: the worker gets
 * the lane's tasks at once, others when it has not taken them within PREFER_MS. Written as a tag, so that a lane is what it was; masters
 * of the version before leave such lanes to the others.
 */
export function preferenceTag(workerName: string): string {
  return `${PREFIX}${workerName.toLowerCase()}`;
}

export function isPreferenceTag(tag: string): boolean {
  return tag.startsWith(PREFIX);
}

const known = new WeakMap<Lane, string | null>();

/** The worker that the lane prefers, in lower case; null: none. */
export function preferredWorker(lane: Lane): string | null {
  if (lane.tags.length === 0) return null;
  let name = known.get(lane);
  if (name === undefined) {
    name = lane.tags.find(isPreferenceTag)?.slice(PREFIX.length) ?? null;
    known.set(lane, name);
  }
  return name;
}
