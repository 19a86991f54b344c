import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Stack, type StackOptions, startStack } from '@baton/testkit';
import { type TestContext, vi } from 'vitest';

/** Something that a task did. */
export interface Effect {
  readonly what: 'start' | 'end' | 'aborted';
  readonly taskId: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly pid: number;
}

/** Where the tasks of one test play: what they did, and the gates that hold them. */
export interface Stage extends AsyncDisposable {
  readonly dir: string;
  /** Ends it with the stage. */
  own<T extends AsyncDisposable>(thing: T): T;
  /** Processes that go when the stage goes; what they wrote is shown when the test fails. Their tasks are those of tasks.ts. */
  start(options?: StackOptions): Promise<Stack>;
  /** Lets go what is held by this gate. */
  open(gate?: string): void;
  effects(what?: Effect['what'], taskId?: string): Effect[];
  /** Waits until there are so many effects of this kind; gives them. */
  until(what: Effect['what'], count: number, taskId?: string): Promise<Effect[]>;
}

const tasksModule = new URL('./tasks.ts', import.meta.url);

/** Tests of a file at once: they wait most of the time, but their processes all start at the beginning. */
const TURNS = 3;
const waiting: (() => void)[] = [];
let playing = 0;

/** Waits for its turn among the concurrent tests of the file. */
export async function openStage({ onTestFailed, onTestFinished }: TestContext): Promise<Stage> {
  if (++playing > TURNS) await new Promise<void>((resolve) => waiting.push(resolve));
  const dir = await mkdtemp(join(tmpdir(), 'baton-faults-'));
  const file = join(dir, 'effects');
  writeFileSync(file, '');
  const effects = (what?: Effect['what'], taskId?: string): Effect[] => {
    const lines = readFileSync(file, 'utf8').split('\n');
    lines.pop(); // the last one is empty, or being written
    return lines
      .map((line) => JSON.parse(line) as Effect)
      .filter((each) => (!what || each.what === what) && (!taskId || each.taskId === taskId));
  };
  const owned: AsyncDisposable[] = [];
  const own = <T extends AsyncDisposable>(thing: T): T => {
    owned.push(thing);
    return thing;
  };
  let closing: Promise<void> | undefined;
  const close = async () => {
    // What came later may use what was there before.
    for (const thing of owned.toReversed()) await thing[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
    playing--;
    waiting.shift()?.();
  };
  const closeOnce = () => {
    closing ??= close();
    return closing;
  };
  // A test that takes too long is left where it stands, its processes must not be.
  onTestFinished(closeOnce);
  return {
    own,
    dir,
    async start(options) {
      const starting = startStack({ tasksModule, ...options });
      // Owned before it is there: the test may fail meanwhile.
      own({ [Symbol.asyncDispose]: () => starting.then((stack) => stack.stop()).catch(() => {}) });
      const stack = await starting;
      onTestFailed(() => void process.stderr.write(`${stack.logs()}\n`));
      return stack;
    },
    effects,
    open: (gate = 'open') => writeFileSync(join(dir, gate), ''),
    async until(what, count, taskId) {
      await until(() => effects(what, taskId).length >= count, `${count} tasks to ${what}`);
      return effects(what, taskId);
    },
    [Symbol.asyncDispose]: closeOnce,
  };
}

/** Waits until something is so; throws, saying what, when it does not come. */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs: number = 30_000,
): Promise<void> {
  await vi.waitFor(
    async () => {
      if (!(await isSo())) throw new Error(`waited in vain for ${what}`);
    },
    { timeout: timeoutMs, interval: 20 },
  );
}
