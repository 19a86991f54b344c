import type { DatabaseDump, Effect, History } from '@baton/testkit/history';
import type { Effect as Noted } from './effects.ts';
import type { Life } from './program.ts';

/**
 * The notes of processes as effects: one for each process that worked on an attempt. The session is that of the lease, by the
 * database: tasks do not know it. What ended with its worker, without a note, ended when the worker did.
 */
export function effectsOf(
  noted: readonly Noted[],
  dump: Pick<DatabaseDump, 'attempts' | 'leases'>,
  workers: readonly (readonly Life[])[],
): Effect[] {
  const sessions = new Map<string, string>();
  for (const { taskId, epoch, sessionId } of [...dump.attempts, ...dump.leases])
    sessions.set(`${taskId} ${epoch}`, sessionId);
  const deaths = new Map(workers.flat().map(({ pid, toMs }) => [pid, toMs]));
  const effects = new Map<string, { -readonly [Field in keyof Effect]: Effect[Field] }>();
  for (const { what, taskId, epoch, pid, atMs, sha256, resumedFrom } of noted) {
    const key = `${taskId} ${epoch} ${pid}`;
    if (what === 'begin') {
      const sessionId = sessions.get(`${taskId} ${epoch}`) ?? '';
      const endedAtMs = deaths.get(pid) ?? null;
      const from = resumedFrom === undefined ? {} : { resumedFrom };
      effects.set(key, { taskId, epoch, sessionId, startedAtMs: atMs, endedAtMs, ...from });
      continue;
    }
    // A process that was killed before it could say that it began did nothing.
    const effect = effects.get(key);
    if (effect === undefined) continue;
    if (what === 'result') effect.outputSha256 = sha256!;
    else effect.endedAtMs = atMs;
  }
  return [...effects.values()];
}

/** As JSON, a list to a line where it can be: for people, and for the checker again. */
export function historyText(history: History): string {
  const json = (value: unknown) =>
    JSON.stringify(value, (_, each: unknown) => (each instanceof Map ? { map: [...each] } : each));
  const { database, ...parts } = history;
  const lines = Object.entries(parts).map(([name, value]) => `${json(name)}:${json(value)}`);
  const tables = Object.entries(database).map(([name, value]) => `${json(name)}:${json(value)}`);
  return `{${lines.join(',\n')},\n"database":{${tables.join(',\n')}}}\n`;
}
