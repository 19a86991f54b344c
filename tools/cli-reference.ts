/**
 * Writes docs/reference/cli.md from the help of every command.
 *
 *   node tools/cli-reference.ts           writes it
 *   node tools/cli-reference.ts --check   writes nothing; exits 1 when it is stale
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCli } from '@baton/cli';
import { repositoryRoot } from './workspace.ts';

/** Relative to the repository. */
export const CLI_REFERENCE = 'docs/reference/cli.md';

const HEAD = `# The command line

Written by \`node tools/cli-reference.ts\` from the help of each command. In this repository \`baton\` is \`npx baton\`.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 3 not found, 5 Baton cannot be reached, 64 wrong
usage. Settings: [configuration](configuration.md).
`;

/** The help of a command, as it is printed off a terminal. */
async function helpOf(words: readonly string[]): Promise<string> {
  let text = '';
  const stream = {
    isTTY: false,
    write(chunk: string) {
      text += chunk;
      return true;
    },
  };
  await runCli([...words, '--help'], { env: { NO_COLOR: '1' }, stdout: stream, stderr: stream });
  return text.trim();
}

/** The names under COMMANDS: the parts of a route. */
function commandsIn(help: string): string[] {
  const section = help.split(/^COMMANDS$/m)[1];
  return section === undefined ? [] : [...section.matchAll(/^ {2}([a-z][a-z-]*) {2,}/gm)].map((match) => match[1]!);
}

/** A command's words and its help; a route's parts follow it. */
async function collect(words: readonly string[]): Promise<{ words: readonly string[]; help: string }[]> {
  const help = await helpOf(words);
  const parts = await Promise.all(commandsIn(help).map((name) => collect([...words, name])));
  return [{ words, help }, ...parts.flat()];
}

/** Every command as it is typed, without `baton`: `task submit`. Routes are in it too: `task`. */
export async function cliCommands(): Promise<string[]> {
  return (await collect([])).map(({ words }) => words.join(' ')).filter((name) => name !== '');
}

export async function renderCliReference(): Promise<string> {
  const sections = (await collect([])).map(({ words, help }) => {
    const title = ['baton', ...words].join(' ');
    return `## ${title}\n\n\`\`\`text\n${help.replaceAll(/[ \t]+$/gm, '')}\n\`\`\`\n`;
  });
  return `${HEAD}\n${sections.join('\n')}`;
}

if (import.meta.main) {
  const file = join(repositoryRoot, CLI_REFERENCE);
  const fresh = await renderCliReference();
  if (!process.argv.includes('--check')) {
    writeFileSync(file, fresh);
    console.log(`${CLI_REFERENCE}: written`);
  } else if (readFileSync(file, 'utf8') !== fresh) {
    console.log(`${CLI_REFERENCE} is stale. Fix: node tools/cli-reference.ts`);
    process.exitCode = 1;
  }
}
