import { type ChildProcess, spawn } from 'node:child_process';
import { hasProcessTable } from './process-table.ts';
import { TAG_VARIABLE } from './tag.ts';

/**
 * A shell of some hundred kilobytes that waits for the worker's end, however it comes, and then kills all that carries its tag, until
 * nothing is left. It reads the pipe that only the worker holds: SIGKILL closes it, too.
 */
const script = `
while read -r _; do :; done
i=0
while [ $i -lt 500 ]; do
  found=
  for file in $(grep -lsaF -- "$1" /proc/[0-9]*/environ 2>/dev/null); do
    pid=\${file#/proc/}; pid=\${pid%/environ}
    kill -KILL "$pid" 2>/dev/null && found=1
  done
  [ -n "$found" ] || exit 0
  i=$((i + 1)); sleep 0.02 2>/dev/null || sleep 1
done
`;

/** Watches over the children of a worker. */
export class Warden {
  readonly #child: ChildProcess | undefined;

  /** @param prefix of the tags of all that it kills */
  constructor(prefix: string) {
    if (!hasProcessTable) {
      return;
    }
    try {
      const needle = `${TAG_VARIABLE}=${prefix}`;
      this.#child = spawn('/bin/sh', ['-c', script, 'baton-warden', needle], {
        // A group of its own: who ends the worker's group ends not the warden.
        detached: true,
        cwd: '/',
        env: { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' },
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      this.#child.on('error', () => {});
      this.#child.stdin!.on('error', () => {});
      this.#child.unref();
      (this.#child.stdin as unknown as { unref?: () => void }).unref?.();
    } catch {
      // Without it the next start of the worker finds what is left.
    }
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** To be called when nothing is left to watch. */
  close(): void {
    this.#child?.stdin?.end();
  }
}
