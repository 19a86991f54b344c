import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A process that adds so many no-op tasks a second, in bulk, until it is disposed of. */
export interface Load extends AsyncDisposable {
  readonly pid: number;
  /** Stops it; how many it has added. */
  stop(): Promise<number>;
}

/** @param who `baton`, or a peer as `--peers` names it; @param rate tasks a second */
export async function startLoad(who: string, url: string, rate: number): Promise<Load> {
  const program = fileURLToPath(new URL('load.program.ts', import.meta.url));
  const child = fork(program, [who, url, String(rate)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = once(child, 'exit');
  await Promise.race([
    once(child, 'message'),
    ended.then(([code]) => {
      throw new LoadError(`the load of ${who} ended with ${code}`);
    }),
  ]);
  let added: Promise<number> | undefined;
  const stop = () => {
    added ??= (async () => {
      const answer = once(child, 'message');
      child.send('stop');
      const [count] = (await answer) as [number];
      child.disconnect();
      await ended;
      return count;
    })();
    return added;
  };
  return {
    pid: child.pid!,
    stop,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null && !added) child.kill('SIGKILL');
      await ended;
    },
  };
}

export class LoadError extends Error {
  override readonly name = 'LoadError';
}
