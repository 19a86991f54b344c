import type { WorkflowRow } from '@baton/store';
import { readFunctionForm } from './function-definition.ts';

/**
 * The newest versions of durable functions, as this master read them last. A version may be out of date at any time: the statement that
 * stores a run looks whether it is.
 */
export interface NewestFunctions {
  remember(namespaceId: number, workflow: WorkflowRow): void;
  /** Undefined: not known, or a version is asked for. */
  of(
    namespaceId: number,
    asked: { name: string; version: number | null; release?: string | null },
  ): WorkflowRow | undefined;
}

const MOST = 1_000;

export function createNewestFunctions(): NewestFunctions {
  const known = new Map<string, WorkflowRow>();
  const keyOf = (namespaceId: number, name: string) => `${namespaceId} ${name}`;

  return {
    remember(namespaceId, workflow) {
      const key = keyOf(namespaceId, workflow.name);
      // A graph by that name is now the newest.
      if (!readFunctionForm(workflow.storedForm)) return void known.delete(key);
      known.set(key, workflow);
      if (known.size > MOST) for (const oldest of known.keys()) return void known.delete(oldest);
    },
    of(namespaceId, { name, version, release }) {
      return version !== null || release ? undefined : known.get(keyOf(namespaceId, name));
    },
  };
}
