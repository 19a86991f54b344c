import { findNamespace } from '@baton/store';
import type { EngineEnvironment } from './environment.ts';

/** The number of a namespace that exists, for reads: they make none. Those that exist stay, so they are asked for once. */
export function createNamespaceFinder(env: EngineEnvironment): (name: string) => Promise<number | null> {
  const known = new Map<string, number>();
  return async (name) => {
    const cached = known.get(name);
    if (cached !== undefined) return cached;
    const found = await findNamespace(env.pools.api, name);
    if (found !== null) known.set(name, found);
    return found;
  };
}
