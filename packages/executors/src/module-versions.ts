import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

const query = 'baton-version';

/** Files that each version of a module imported, itself included. */
const filesOf = new Map<string, Set<string>>();
let lastVersion = 0;
let hooked = false;

/**
 * Imports a module anew, with all that it imports by relative paths, beside the versions that were imported before: those
 * stay as they are, and what runs in them goes on. Each version stays in memory, so this is for development.
 *
 * `files` is filled while the import goes on; it is handed in so that it is there when the import fails.
 */
export async function importAnew(moduleUrl: string, files: Set<string>): Promise<Readonly<Record<string, unknown>>> {
  if (!hooked) {
    hooked = true;
    registerHooks({ resolve: carryVersion });
  }
  const version = String(++lastVersion);
  files.add(fileURLToPath(moduleUrl));
  filesOf.set(version, files);
  try {
    const url = new URL(moduleUrl);
    url.searchParams.set(query, version);
    return await import(url.href);
  } finally {
    filesOf.delete(version);
  }
}

type Resolve = NonNullable<Parameters<typeof registerHooks>[0]['resolve']>;

/** What a versioned module imports by a relative path is of the same version. */
function carryVersion(...[specifier, context, next]: Parameters<Resolve>): ReturnType<Resolve> {
  const resolved = next(specifier, context);
  const relative = specifier.startsWith('./') || specifier.startsWith('../');
  if (!relative || context.parentURL === undefined || !resolved.url.startsWith('file:')) {
    return resolved;
  }
  const version = new URL(context.parentURL).searchParams.get(query);
  if (version === null) {
    return resolved;
  }
  const url = new URL(resolved.url);
  filesOf.get(version)?.add(fileURLToPath(url));
  url.searchParams.set(query, version);
  return { ...resolved, url: url.href };
}
