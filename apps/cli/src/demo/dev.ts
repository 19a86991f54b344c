import { spawn } from 'node:child_process';
import { once } from 'node:events';

/**
 * `npx turbo run dev`: starts the demonstration in a session of its own and hands signals on. turbo kills what it
 * started a moment after Ctrl-C, before workers have drained and Postgres has stopped; this process is what it kills
 * then, and the other one, whose stdin ends with it, stops in order.
 */
export async function dev(main: string, args: readonly string[]): Promise<number> {
  const words = [main, 'start', '--watch', '--stop-with-stdin', ...args];
  const child = spawn(process.execPath, words, { detached: true, stdio: ['pipe', 'inherit', 'inherit'] });
  child.stdin.on('error', () => {});
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}
