import { afterAll, beforeAll, beforeEach } from 'vitest';
import { type Stack, type StackOptions, startStack } from './stack.ts';

/**
 * One stack for all tests of a file, started before the first and gone after the last. Call it at the top of the file;
 * what it returns gives the stack inside of tests and hooks. When a test fails, what the processes wrote until then is shown.
 */
export function useStack(options: StackOptions | (() => Promise<StackOptions>) = {}): () => Stack {
  let stack: Stack | undefined;
  beforeAll(async () => {
    stack = await startStack(typeof options === 'function' ? await options() : options);
  });
  beforeEach(({ onTestFailed }) => {
    onTestFailed(() => void process.stderr.write(`${stack?.logs()}\n`));
  });
  afterAll(async () => {
    await stack?.stop();
  });
  return () => stack!;
}
