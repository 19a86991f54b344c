import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Baton's repository around a directory; undefined where the command was installed from a package. */
export function repositoryAround(directory: string): string | undefined {
  for (let at = directory; ; at = dirname(at)) {
    if (isRepository(at)) return at;
    if (dirname(at) === at) return undefined;
  }
}

function isRepository(directory: string): boolean {
  const manifest = join(directory, 'package.json');
  if (!existsSync(manifest) || !existsSync(join(directory, 'proto', 'baton'))) return false;
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string }).name === 'baton-repo';
}
