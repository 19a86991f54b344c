import { spawn } from 'node:child_process';

/** A program that tasks may need. */
export interface Tool {
  readonly name: string;
  /** As it says itself; empty: it did not say in time, or not in a way that is known. */
  readonly version: string;
}

/** Looked for unless the configuration names others. */
export const defaultTools: readonly string[] = [
  'python3',
  'node',
  'git',
  'ffmpeg',
  'docker',
  'podman',
  'nvidia-smi',
  'nvcc',
  'gcc',
  'make',
  'java',
  'go',
  'rustc',
  'R',
  'julia',
  'uv',
  'conda',
];

export interface ToolSearch {
  /** Default 1 500: of one tool; whoever asks waits no longer for all of them. */
  readonly timeoutMs?: number;
  /** Tools that are asked at once. Default 4. */
  readonly atOnce?: number;
}

/** How each says its version, where `--version` is not the way. */
const arguments_: Readonly<Record<string, readonly string[]>> = {
  ffmpeg: ['-version'],
  ffprobe: ['-version'],
  go: ['version'],
  java: ['-version'],
};
const mostBytes = 16 * 1024;

/**
 * Which of these programs are on the PATH, with their versions, in the order of the names. A program that hangs is there, without a
 * version. Never rejects.
 */
export async function findTools(names: readonly string[], search: ToolSearch = {}): Promise<Tool[]> {
  const { timeoutMs = 1_500, atOnce = 4 } = search;
  const wanted = [...new Set(names)];
  const found = new Map<string, Tool>();
  let next = 0;
  const ask = async (): Promise<void> => {
    for (let name = wanted[next++]; name !== undefined; name = wanted[next++]) {
      const tool = await askVersion(name, timeoutMs);
      if (tool !== undefined) {
        found.set(name, tool);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, ask));
  return wanted.flatMap((name) => found.get(name) ?? []);
}

/** Undefined: there is no such program. */
function askVersion(name: string, timeoutMs: number): Promise<Tool | undefined> {
  return new Promise((resolve) => {
    // Neither a path nor an option: the name of a program.
    if (!/^[\w][\w.+-]{0,99}$/.test(name)) {
      resolve(undefined);
      return;
    }
    const child = spawn(name, [...(arguments_[name] ?? ['--version'])], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let text = '';
    const end = (tool: Tool | undefined) => {
      clearTimeout(timer);
      resolve(tool);
    };
    const timer = setTimeout(() => {
      try {
        // The whole group: wrappers such as pyenv's start the real one.
        process.kill(-child.pid!, 'SIGKILL');
      } catch {
        // It has ended.
      }
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      end({ name, version: '' });
    }, timeoutMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        if (text.length < mostBytes) {
          text += chunk;
        }
      });
    }
    child.once('error', () => end(undefined));
    child.once('close', (code) => {
      // A wrapper without the real program behind it says so by 127.
      end(code === 127 || code === 126 ? undefined : { name, version: versionIn(text) });
    });
  });
}

/** The first thing in it that looks like a version: `Python 3.11.4`, `v24.1.0`, `release 12.4, V12.4.131`, `ffmpeg version n6.1-2`. */
export function versionIn(text: string): string {
  const cuda = /\bV(\d+\.\d+\.\d+)/.exec(text)?.[1];
  return (
    cuda ??
    /(?<![\w.])[vn]?(\d+(?:\.\d+)+(?:[-+][\w.]+)*)/.exec(text)?.[1] ??
    /\bgo(\d+(?:\.\d+)+)/.exec(text)?.[1] ??
    ''
  );
}
