import type { NewTask } from '@baton/store';

/**
 * The nodes of tasks that steps of this master have stored and that nobody has been seen to take yet: whoever grants such a task for the first
 * time need not read it. All of it can be lost; what is missing is read.
 */
export interface NodeNames {
  remember(tasks: readonly Pick<NewTask, 'id' | 'extra'>[]): void;
  /** Of a task that is granted now; undefined: not known here. */
  take(taskId: string): string | undefined;
}

/** About 2 MB. */
const MOST = 20_000;

export function createNodeNames(most = MOST): NodeNames {
  const known = new Map<string, string>();

  return {
    remember(tasks) {
      for (const { id, extra } of tasks) if (extra?.nodeId) known.set(id, extra.nodeId);
      for (const oldest of known.keys()) {
        if (known.size <= most) return;
        known.delete(oldest);
      }
    },
    take(taskId) {
      const name = known.get(taskId);
      if (name !== undefined) known.delete(taskId);
      return name;
    },
  };
}
