import { fork } from 'node:child_process';
import { mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { loadTasks, TaskModuleError } from './load-tasks.ts';
import { DuplicateTaskError } from './task-definition.ts';
import type { Reply, Request } from './testing/dev-process.ts';

function directory(files: Record<string, string>) {
  const path = mkdtempSync(join(tmpdir(), 'baton-tasks-'));
  const write = (name: string, text: string) => writeFileSync(join(path, name), text);
  for (const [name, text] of Object.entries(files)) {
    write(name, text);
  }
  return { path, write };
}

const taskOf = (id: string, body: string) => `{ __baton: 'task', id: '${id}', run: ${body} }`;

test('every exported task of the modules is taken, alone or in an array', async () => {
  const { path } = directory({
    'a.mjs': `export const one = ${taskOf('one', '() => 1')}; export const notATask = 7; export default one;`,
    'b.mjs': `export const all = [${taskOf('two', '() => 2')}, ${taskOf('three', '() => 3')}];`,
  });
  const source = await loadTasks(['a.mjs', 'b.mjs'], { base: path });
  expect(source.kinds).toEqual(['one', 'two', 'three']);
  expect(source.get('two')!.run(undefined, undefined as never)).toBe(2);
});

test('a module that is missing, broken, without a task, or with an id twice is refused by name', async () => {
  const { path } = directory({
    'broken.mjs': 'export const = ',
    'empty.mjs': 'export const x = 1;',
    'one.mjs': `export const one = ${taskOf('one', '() => 1')};`,
    'other.mjs': `export const one = ${taskOf('one', '() => 1')};`,
  });
  await expect(loadTasks(['missing.mjs'], { base: path })).rejects.toThrow(TaskModuleError);
  await expect(loadTasks(['broken.mjs'], { base: path })).rejects.toThrow(/broken\.mjs: cannot be imported/);
  await expect(loadTasks(['empty.mjs'], { base: path })).rejects.toThrow(/empty\.mjs: exports no task/);
  await expect(loadTasks(['one.mjs', 'other.mjs'], { base: path })).rejects.toThrow(DuplicateTaskError);
});

/** A process that watches a module, as a worker in development does: the test's own loader would be in the way. */
function watching(path: string) {
  const child = fork(fileURLToPath(new URL('./testing/dev-process.ts', import.meta.url)), [path], { execArgv: [] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const seen: Reply[] = [];
  let watchers: (() => void)[] = [];
  child.on('message', (reply: Reply) => {
    seen.push(reply);
    const due = watchers;
    watchers = [];
    for (const watcher of due) {
      watcher();
    }
  });
  let taken = 0;
  /** The next reply of a type, in order of arrival. */
  const next = async <T extends Reply['type']>(type: T): Promise<Extract<Reply, { type: T }>> => {
    for (;;) {
      const at = seen.findIndex((reply, index) => index >= taken && reply.type === type);
      if (at >= 0) {
        taken = at + 1;
        return seen[at] as Extract<Reply, { type: T }>;
      }
      await new Promise<void>((resolve) => watchers.push(resolve));
    }
  };
  const ask = (request: Request) => void child.send(request);
  return { next, ask };
}

test('an edited module is live at once, also what it imports, and attempts that run finish on the old code', async () => {
  const { path, write } = directory({
    'words.ts': `export const word: string = 'one';`,
    'tasks.ts': `
      import { word } from './words.ts';
      export const speak = ${taskOf('speak', '() => word')};
      export const slow = ${taskOf('slow', 'async (gate: any) => { await gate; return word; }')};`,
  });
  const { next, ask } = watching(join(path, 'tasks.ts'));
  expect((await next('ready')).kinds).toEqual(['slow', 'speak']);
  ask({ type: 'run', kind: 'speak' });
  expect((await next('result')).value).toBe('one');

  ask({ type: 'start', kind: 'slow' });
  await next('started');
  const edited = performance.now();
  write('words.ts', `export const word: string = 'two';`);
  await next('reloaded');
  expect(performance.now() - edited).toBeLessThan(3_000);
  ask({ type: 'run', kind: 'speak' });
  expect((await next('result')).value).toBe('two');
  ask({ type: 'release' });
  expect((await next('released')).value).toBe('one');
});

test('a broken edit is told and the tasks that were there stay; the next good one counts, saved by renaming too', async () => {
  const { path, write } = directory({ 'tasks.ts': `export const a = ${taskOf('a', '() => 1')};` });
  const { next, ask } = watching(join(path, 'tasks.ts'));
  await next('ready');
  write('tasks.ts', 'export const a = ;');
  expect((await next('error')).message).toContain('tasks.ts: cannot be imported');
  ask({ type: 'run', kind: 'a' });
  expect((await next('result')).value).toBe(1);
  write('new.ts', `export const a = ${taskOf('a', '() => 2')}; export const b = ${taskOf('b', '() => 3')};`);
  renameSync(join(path, 'new.ts'), join(path, 'tasks.ts'));
  expect((await next('kinds')).kinds).toEqual(['a', 'b']);
  ask({ type: 'run', kind: 'a' });
  expect((await next('result')).value).toBe(2);
});
