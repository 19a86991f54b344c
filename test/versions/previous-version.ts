/** The version before this one, from the repository's own history. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import previous from './previous.json' with { type: 'json' };

const run = promisify(execFile);
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

/** The history that the commit is in is not here: a shallow clone, or files without git. */
export class NoHistory extends Error {
  override readonly name = 'NoHistory';
}

export interface PreviousVersion extends AsyncDisposable {
  readonly schema: number;
  readonly protocol: number;
  /** Its files. */
  readonly root: string;
  main(app: 'master' | 'worker'): string;
}

/**
 * Lays the previous version's files out in a directory of their own. Its packages are its own; third-party modules are those that are
 * installed here.
 *
 * @throws NoHistory
 */
export async function previousVersion(): Promise<PreviousVersion> {
  await run('git', ['-C', REPOSITORY, 'cat-file', '-e', `${previous.commit}^{commit}`]).catch((error) => {
    throw new NoHistory(`commit ${previous.commit} is not in this repository: ${String(error.stderr ?? error).trim()}`);
  });
  const root = await mkdtemp(join(tmpdir(), 'baton-previous-'));
  try {
    const archive = join(root, 'archive.tar');
    await run('git', [
      '-C',
      REPOSITORY,
      'archive',
      '-o',
      archive,
      previous.commit,
      'package.json',
      'apps',
      'packages',
      'proto',
    ]);
    await run('tar', ['-xf', archive, '-C', root]);
    await rm(archive);
    await linkModules(root);
  } catch (error) {
    await rm(root, { recursive: true, force: true });
    throw error;
  }
  const { schema, protocol } = previous;
  return {
    schema,
    protocol,
    root,
    main: (app) => join(root, 'apps', app, 'src', 'main.ts'),
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

async function linkModules(root: string): Promise<void> {
  const installed = join(REPOSITORY, 'node_modules');
  const modules = join(root, 'node_modules');
  await mkdir(join(modules, '@baton'), { recursive: true });
  for (const name of await readdir(installed))
    if (!name.startsWith('.') && name !== '@baton') await symlink(join(installed, name), join(modules, name));
  for (const place of ['packages', 'apps'])
    for (const directory of await readdir(join(root, place))) {
      const { name } = JSON.parse(await readFile(join(root, place, directory, 'package.json'), 'utf8')) as {
        name: string;
      };
      await symlink(join(root, place, directory), join(modules, name));
    }
}
