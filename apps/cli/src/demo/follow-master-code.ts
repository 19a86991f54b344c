import { watch } from 'node:fs';
import { join } from 'node:path';
import type { Screen } from '../terminal/screen.ts';
import type { Stack } from '../up/stack.ts';

/** What a master is made of. */
const SOURCES = [
  'apps/master/src',
  ...['api', 'contract', 'domain', 'engine', 'server', 'store', 'telemetry'].map((name) => `packages/${name}/src`),
];
/** Editors write a file in several steps, and people save several files. */
const SETTLE_MS = 200;

/**
 * Starts the master again when its code is edited. Workers keep their leases and connect again. @returns ends it
 */
export function followMasterCode(root: string, stack: Stack, screen: Screen): () => void {
  let timer: NodeJS.Timeout | undefined;
  let restarting = Promise.resolve();
  const onChange = (file: string | null): void => {
    if (file === null || !/\.(ts|sql)$/.test(file) || /\.(test|fixture)\.ts$/.test(file)) return;
    clearTimeout(timer);
    timer = setTimeout(() => {
      screen.note({ text: `${file} was edited: the master starts again`, style: 'dim' });
      restarting = restarting.then(() => stack.restartMaster());
    }, SETTLE_MS);
  };
  const watchers = SOURCES.map((source) => {
    const watcher = watch(join(root, source), { recursive: true }, (_, file) => onChange(file));
    watcher.on('error', (error) =>
      screen.note({ text: `${source} cannot be watched: ${error.message}`, style: 'yellow' }),
    );
    return watcher;
  });
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
}
