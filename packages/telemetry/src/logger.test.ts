import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { createLogger } from './logger.ts';

function open(level?: 'debug' | 'info') {
  const logDir = join(mkdtempSync(join(tmpdir(), 'baton-log-')), 'made', 'here');
  const people: string[] = [];
  const log = createLogger({ name: 'worker a/1', level, logDir, people: { write: (text) => people.push(text) } });
  const lines = async () => {
    await log.flush();
    const text = readFileSync(join(logDir, 'worker_a_1.jsonl'), 'utf8');
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  };
  return { log, people, lines };
}

test('a line is JSON in the file, with a constant message and its fields, and one line for people', async () => {
  const { log, people, lines } = open();
  log.child({ worker_id: 'w1' }).info('lease lost', { task_id: '42', lease_epoch: 3 });
  expect(await lines()).toMatchObject([
    { level: 'info', name: 'worker a/1', msg: 'lease lost', worker_id: 'w1', task_id: '42', lease_epoch: 3 },
  ]);
  expect(people).toHaveLength(1);
  expect(people[0]).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} info {2}worker a\/1: lease lost worker_id=w1 task_id=42 lease_epoch=3\n$/,
  );
});

test('lines below the level are not written', async () => {
  const { log, people, lines } = open('info');
  log.debug('too small');
  log.warn('seen');
  expect((await lines()).map((line) => line.msg)).toEqual(['seen']);
  expect(people).toHaveLength(1);
});

test('an error keeps its type, code, cause and stack in the file, and is short for people', async () => {
  const { log, people, lines } = open();
  const error = Object.assign(new TypeError('no such thing', { cause: new Error('deeper') }), { code: 'ENOENT' });
  log.error('step failed', { error });
  const [line] = await lines();
  expect(line.error).toMatchObject({ type: 'TypeError', message: 'no such thing', code: 'ENOENT' });
  expect(line.error.cause.message).toBe('deeper');
  expect(line.error.stack).toContain('logger.test.ts');
  expect(people[0]).toContain('error="TypeError: no such thing"');
  expect(people[0]).not.toContain('logger.test.ts');
});

test('control characters in data neither forge lines nor reach a terminal', async () => {
  const { log, people, lines } = open();
  log.info('task named', { kind: 'a\r\n12:00 error forged \u001b[31mred\u009b' });
  expect(await lines()).toHaveLength(1);
  expect(people[0]!.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
});

test('lines of one turn are written together, at its end or before a warning, and in their order', async () => {
  const { log, people } = open();
  log.info('first', { n: 1 });
  log.child({ worker_id: 'w1' }).info('second');
  expect(people).toEqual([]);
  await new Promise(setImmediate);
  expect(people.map((text) => text.match(/first|second/g))).toEqual([['first', 'second']]);
  log.info('third');
  log.warn('fourth');
  expect(
    people
      .slice(1)
      .join('')
      .match(/third|fourth/g),
  ).toEqual(['third', 'fourth']);
});

test('what a process logged in the turn in which it ends is in its file', async () => {
  const logDir = mkdtempSync(join(tmpdir(), 'baton-log-'));
  const module = new URL('./logger.ts', import.meta.url).href;
  const program = `import { createLogger } from '${module}';
    createLogger({ name: 'ends', logDir: ${JSON.stringify(logDir)}, people: null }).info('last words'); process.exit(0);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' });
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(readFileSync(join(logDir, 'ends.jsonl'), 'utf8')).toContain('last words');
});

test('a process whose stderr nobody reads any more goes on, and goes on logging to its file', async () => {
  const logDir = mkdtempSync(join(tmpdir(), 'baton-log-'));
  const fixture = fileURLToPath(new URL('./unread-log.fixture.ts', import.meta.url));
  const child = spawn(process.execPath, [fixture, logDir], { stdio: ['pipe', 'ignore', 'pipe'] });
  await once(child.stderr, 'data');
  child.stderr.destroy();
  await once(child.stderr, 'close');
  const lines = () => readFileSync(join(logDir, 'unread.jsonl'), 'utf8').trimEnd().split('\n');
  for (let told = 1; told <= 3; told++) {
    child.stdin.write(`${told}\n`);
    await expect.poll(() => lines().length).toBe(1 + told);
  }
  child.stdin.end();
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(lines().map((line) => JSON.parse(line).msg)).toEqual(['begun', 'told', 'told', 'told']);
});
