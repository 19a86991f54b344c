import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import manifest from '../../package.json' with { type: 'json' };
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT } from '../exit.ts';
import type { InitFlags } from './init-flags.ts';

const PACKAGES = ['client', 'worker', 'cli'] as const;

/** `baton init [DIR]`. */
export async function init(this: CliContext, flags: InitFlags, directory = '.'): Promise<void> {
  const target = resolve(directory);
  const files = projectFiles(projectName(target), dependencies(target, flags.packages));
  const there = Object.keys(files).filter((file) => existsSync(join(target, file)));
  if (there.length > 0) {
    throw new CliFailure(EXIT.failed, `${there.join(', ')} in ${directory}: there already, and left as it is`, [
      'choose an empty directory: baton init my-project',
    ]);
  }
  await mkdir(target, { recursive: true });
  // 'wx': whoever makes the same file at this moment keeps it.
  for (const [file, text] of Object.entries(files)) await writeFile(join(target, file), text, { flag: 'wx' });
  this.record({ directory: target });
  for (const file of Object.keys(files)) this.screen.line(join(directory, file));
  this.screen.note('');
  this.screen.note({ text: 'Next:', style: 'bold' });
  if (target !== process.cwd()) this.screen.note(`  cd ${directory}`);
  this.screen.note('  npm install');
  this.screen.note('  npm start                  # Postgres, a master and two workers with your tasks');
  this.screen.note('  npm run hello              # in another terminal: runs your task and prints what it gives');
}

function dependencies(target: string, tarballs: string | undefined): Record<string, string> {
  const entries = PACKAGES.map((name): [string, string] => {
    if (tarballs === undefined) return [`@baton/${name}`, manifest.version];
    const tarball = resolve(tarballs, `baton-${name}-${manifest.version}.tgz`);
    if (!existsSync(tarball)) {
      throw new CliFailure(EXIT.notFound, `there is no ${tarball}`, [
        `make it in Baton's repository: node tools/pack.ts ${name} --out ${tarballs}`,
      ]);
    }
    return [`@baton/${name}`, `file:${relative(target, tarball)}`];
  });
  return Object.fromEntries(entries);
}

/** What npm takes for a name. */
function projectName(target: string): string {
  const name = basename(target)
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[._-]+/, '');
  return name === '' ? 'baton-project' : name;
}

function projectFiles(name: string, needs: Record<string, string>): Record<string, string> {
  const packageJson = {
    name,
    private: true,
    type: 'module',
    scripts: {
      start: 'baton up --tasks tasks.ts --watch',
      hello: 'baton task submit hello --input name=Ada --wait',
    },
    dependencies: needs,
  };
  return {
    'package.json': `${JSON.stringify(packageJson, null, 2)}\n`,
    'tasks.ts': TASKS,
    'README.md': readme(name),
    '.gitignore': 'node_modules/\n.baton/\nlogs/\n',
  };
}

const TASKS = `import { task } from '@baton/client';

export const hello = task({
  id: 'hello',
  retry: { maxAttempts: 3 },
  run: async (input: { name: string }, ctx) => {
    ctx.log(\`attempt \${ctx.attempt}\`);
    return \`Hello, \${input.name}\`;
  },
});
`;

function readme(name: string): string {
  return `# ${name}

Tasks that Baton runs: \`tasks.ts\`. Needs Node 22.18 or newer.

    npm install
    npm start          # Postgres (embedded), a master and two workers; Ctrl-C ends them, the data stays in .baton/
    npm run hello      # in another terminal: submits the task and prints "Hello, Ada"

An edited \`tasks.ts\` is live when it is saved. What else there is: \`npx baton --help\`.

From a program:

    import { createBaton } from '@baton/client';
    import { hello } from './tasks.ts';

    const handle = await createBaton().enqueue(hello, { name: 'Ada' });
    console.log(await handle.result());

Until the packages are published they come from tarballs: \`node tools/pack.ts client|worker|cli --out DIR\` in Baton's
repository makes them, and \`baton init --packages DIR\` writes a package.json that installs them.
`;
}
