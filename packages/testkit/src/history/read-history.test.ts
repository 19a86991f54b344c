import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Baton, createBaton, TaskCancelled, TaskFailed, type WatchEventsOptions } from '@baton/client';
import { EVENT, type EventTypeName } from '@baton/domain';
import postgres from 'postgres';
import { expect, test } from 'vitest';
import { testDatabase } from '../database.ts';
import { startStack } from '../stack.ts';
import { checkHistory, INVARIANTS } from './check-history.ts';
import type { Draft } from './draft.ts';
import type { ClientOperation, History, SeenEvent, Watcher } from './history.ts';
import { NoHistoryError, readHistory } from './read-history.ts';

const TASKS = `
const task = (id, run) => ({ __baton: 'task', id, run });
export const echo = task('echo', (input) => input);
export const twice = task('twice', (_, ctx) => { if (ctx.attempt < 2) throw new Error('not yet'); return ctx.attempt; });
export const never = task('never', () => { throw new Error('never'); });
export const hold = task('hold', (_, ctx) => new Promise((_resolve, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason))));
export const crash = task('crash', (_, ctx) => (ctx.epoch === 1 ? process.kill(process.pid, 'SIGKILL') : ctx.epoch));
`;
const soon = { initialDelayMs: 20, maxAttempts: 2 };

/** Ends of all kinds, a run, a lost worker; with what the client did and saw. */
async function realHistory(): Promise<Draft<History>> {
  await using stack = await startStack({ workers: 0 });
  const tasksModule = join(stack.home, 'tasks.mjs');
  await writeFile(tasksModule, TASKS);
  await stack.addWorker({ name: 'steady', tasksModule, env: { BATON_WORKER_SLOTS: '8' } });
  const baton = createBaton({ url: stack.url });
  const before = watchUntil(baton, { since: new Date(0) }, (seen) => seen.length >= 30);
  const operations: ClientOperation[] = [];
  const by = () => ({ by: 'client', invokedAtMs: Date.now(), answeredAtMs: Date.now() });
  const submit = async (kind: string, more: { retry?: object; idempotencyKey?: string; delayMs?: number } = {}) => {
    const mark = `mark ${more.idempotencyKey ?? operations.length}`;
    const handle = await baton.tasks.submit({ kind, input: 'x', labels: { mark }, ...more });
    operations.push({
      ...by(),
      outcome: 'ok',
      type: 'submit',
      namespace: 'default',
      kind,
      key: more.idempotencyKey ?? null,
      body: 'x',
      mark,
      taskId: handle.id,
    });
    return handle;
  };

  const echoes = await Promise.all(Array.from({ length: 20 }, () => submit('echo')));
  await Promise.all(echoes.map((t) => t.result()));
  const keyed = [await submit('echo', { idempotencyKey: 'once' }), await submit('echo', { idempotencyKey: 'once' })];
  expect(keyed[1]!.id).toBe(keyed[0]!.id);
  expect(await (await submit('twice', { retry: soon })).result()).toBe(2);
  await (await submit('echo', { delayMs: 50 })).result();
  await expect((await submit('never', { retry: soon })).result()).rejects.toThrow(TaskFailed);
  const asked = await submit('hold');
  for await (const { state } of asked.watch()) if (state === 'leased') break;
  operations.push({
    ...by(),
    invokedAtMs: Date.now(),
    outcome: 'ok',
    type: 'cancel',
    taskId: asked.id,
    answered: (await asked.cancel('enough')) === 'cancelled' ? 'cancelled' : 'asked',
    answeredAtMs: Date.now(),
  });
  await expect(asked.result()).rejects.toThrow(TaskCancelled);
  const unheard = await submit('nobody can do this');
  await unheard.cancel('nobody can');
  operations.push({ ...by(), outcome: 'ok', type: 'cancel', taskId: unheard.id, answered: 'cancelled' });

  // One that takes its worker with it, and is done by the next.
  const crashing = await submit('crash');
  await stack.worker('steady').exited;
  await stack.worker('steady').restart();
  expect(await crashing.result()).toBe(2);

  await baton.workflows.apply({ name: 'pair', nodes: { a: { task: 'echo' }, b: { task: 'echo', needs: ['a'] } } });
  const run = await baton.runs.start('pair', { labels: { mark: 'mark run' } });
  await run.result();
  operations.push({
    ...by(),
    outcome: 'ok',
    type: 'start_run',
    namespace: 'default',
    workflow: 'pair',
    key: null,
    mark: 'mark run',
    runId: run.id,
  });
  await keyed[0]!.result();

  const history = await readHistory(stack.databaseUrl, { leaseTtlMs: 3_000, sameCapabilities: true });
  const first = await before;
  const left = history.database.events.length - first.events.length;
  const after = await watchUntil(baton, { cursor: first.cursor }, (seen) => seen.length >= left);
  const watcher: Watcher = {
    name: 'all',
    types: null,
    taskIds: null,
    from: 'beginning',
    complete: true,
    connections: [first, after],
  };
  return structuredClone({ ...history, operations, watchers: [watcher] } as Draft<History>);
}

/** What a connection of the real watch brings until then. */
async function watchUntil(
  baton: Baton,
  options: WatchEventsOptions,
  isEnough: (seen: readonly SeenEvent[]) => boolean,
): Promise<{ events: SeenEvent[]; cursor: string }> {
  const events: SeenEvent[] = [];
  for await (const batch of baton.events.watch({ ...options, signal: AbortSignal.timeout(60_000) })) {
    for (const { type, taskId = '', runId = '', attempt = 0 } of batch.events) {
      const name = type.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());
      events.push({ type: EVENT[name as EventTypeName], taskId, runId, attempt });
    }
    if (isEnough(events)) return { events, cursor: batch.cursor };
  }
  return { events, cursor: '' };
}

test('a real history holds, in each invariant that a database shows; broken, it does not', {
  timeout: 120_000,
}, async () => {
  const history = await realHistory();
  history.settings.settledAtMs = history.database.takenAtMs;
  const { results } = checkHistory(structuredClone(history));
  expect(results.flatMap((r) => r.violations)).toEqual([]);
  for (const number of [1, 2, 3, 4, 7, 8, 9, 11, 12, 13, 16])
    expect({ number, exercised: results[number - 1]!.exercised }).not.toEqual({ number, exercised: 0 });

  const named = (change: (h: Draft<History>) => unknown): number[] => {
    const broken = structuredClone(history);
    change(broken);
    return INVARIANTS.map((check) => check(broken)).flatMap((r) => (r.violated > 0 ? [r.invariant] : []));
  };
  const first = (h: Draft<History>, state: string) => {
    const { attempts } = h.database;
    return attempts.find(
      (a) => a.epoch === 1 && a.state === state && attempts.some((b) => b.taskId === a.taskId && b.epoch === 2),
    )!;
  };
  const second = (h: Draft<History>, state: string) =>
    h.database.attempts.find((a) => a.epoch === 2 && a.taskId === first(h, state).taskId)!;
  expect(
    named((h) =>
      h.operations!.push({ ...h.operations![0]!, type: 'submit', mark: 'mark gone', taskId: '77' } as ClientOperation),
    ),
  ).toEqual([1]);
  expect(named((h) => h.operations!.pop())).toEqual([1]);
  expect(named((h) => Object.assign(h.database.outcomes[0]!, { state: 'failed' }))).toEqual([2]);
  expect(named((h) => Object.assign(second(h, 'failed'), { attempt: 7 }))).toContain(3);
  expect(named((h) => Object.assign(second(h, 'lost'), { grantedAtMs: 0 }))).toContain(4);
  expect(named((h) => h.watchers![0]!.connections[1]!.events.splice(3, 1))).toEqual([7]);
  expect(named((h) => Object.assign(h.database.runNodes[0]!, { state: 'failed' }))).toEqual([8]);
  expect(named((h) => Object.assign(second(h, 'failed'), { grantedAtMs: first(h, 'failed').endedAtMs }))).toEqual([9]);
  expect(named((h) => Object.assign(h.database.workers[0]!.capabilities, { kinds: [] }))).toEqual([11]);
  expect(named((h) => h.database.tasks.push({ ...h.database.tasks.find((t) => t.key !== null)!, id: '77' }))).toContain(
    13,
  );
});

test('the command shows the invariants, and its exit code says whether they hold', { timeout: 60_000 }, async () => {
  await using stack = await startStack({ workers: 0 });
  const baton = createBaton({ url: stack.url });
  const { id } = await baton.tasks.submit({ kind: 'echo', input: 1 });
  const command = async (...args: string[]) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('main.ts', import.meta.url)), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    child.stderr.on('data', (chunk) => (out += chunk));
    const [code] = await once(child, 'close');
    return { code, out };
  };
  expect(await command(stack.databaseUrl)).toEqual({ code: 0, out: expect.stringContaining('no violations') });
  expect(await command(stack.databaseUrl, '--settled')).toEqual({
    code: 1,
    out: expect.stringContaining(`task ${id} has not ended: ready`),
  });
  const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  await sql`delete from baton.ready where task_id = ${id}`;
  await sql.end();
  expect(await command(stack.databaseUrl)).toEqual({
    code: 1,
    out: expect.stringContaining(`task ${id} is in 0 places`),
  });
  expect(await command('postgres://nobody@127.0.0.1:1/none')).toEqual({
    code: 2,
    out: expect.stringContaining('could not be read'),
  });
  expect(await command('--nonsense')).toEqual({ code: 64, out: expect.stringContaining('npm run check:history') });
});

test('a database without Baton says so', async () => {
  await using database = await testDatabase();
  await expect(readHistory(database.url)).rejects.toThrow(NoHistoryError);
});
