import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

declare module 'vitest' {
  interface ProvidedContext {
    /** Directory of the programs that test/setup/programs.ts made of today's sources, for this run. */
    programs: string;
  }
}

export type ProgramName = '@baton/master/main' | '@baton/worker/main';

/**
 * Path of the main module of a master or worker. In a test run that has bundled them, of the bundle: it starts in half the CPU time of
 * the sources. Else, and with `from: 'source'`, of the source.
 */
export async function programMain(name: ProgramName, from: 'source' | 'bundle' = 'bundle'): Promise<string> {
  const directory = from === 'bundle' ? await bundled() : undefined;
  if (directory === undefined) return fileURLToPath(import.meta.resolve(name));
  return join(directory, name === '@baton/master/main' ? 'master.js' : 'worker.js');
}

/** Of the vitest run; programs that its tests start (benchmarks, campaigns) have it from their environment. Else there is none. */
async function bundled(): Promise<string | undefined> {
  try {
    const { inject } = await import('vitest');
    return inject('programs');
  } catch {
    return process.env.BATON_TEST_PROGRAMS;
  }
}

const PLACE = /(?:file:\/\/)?(\/[^\s"'()]*\/baton-test-programs\/[^\s"'()]+\.js):(\d+):(\d+)/g;
const maps = new Map<string, SourceMap | undefined>();

/** Places in bundled programs (`…/chunk.js:1:2`, in stack traces) as those of the sources that they were made of. */
export function withSourcePlaces(text: string): string {
  return text.replace(PLACE, (place, file: string, line: string, column: string) => {
    const origin = mapOf(file)?.findOrigin(Number(line), Number(column));
    if (origin === undefined || !('fileName' in origin)) return place;
    return `${fileURLToPath(new URL(origin.fileName, pathToFileURL(file)))}:${origin.lineNumber}:${origin.columnNumber}`;
  });
}

function mapOf(file: string): SourceMap | undefined {
  if (!maps.has(file)) {
    let map: SourceMap | undefined;
    try {
      map = new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')));
    } catch {
      // No map, or another run's bundle that is gone: the place stays as it is.
    }
    maps.set(file, map);
  }
  return maps.get(file);
}
