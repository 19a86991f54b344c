import { readFileSync } from 'node:fs';
import { createBaton } from '@baton/client';
import { useStack } from '@baton/testkit/vitest';
import { expect, test } from 'vitest';

const stack = useStack({ tasksModule: new URL('./stream-tasks.ts', import.meta.url) });

/** The most that a process has had in memory so far, MB. */
function peakMb(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

test('100 MB of lines as fast as a task can: followed live, every line is there or a note of how many are not', {
  timeout: 180_000,
}, async () => {
  const baton = createBaton({ url: stack().url });
  const quiet = await baton.submit({ kind: 'babbles', input: { lines: 2_000, bytes: 500, turnEvery: 100 } });
  await quiet.result();
  const before = { master: peakMb(stack().master.pid), worker: peakMb(stack().workers[0]!.pid) };
  const lines = 200_000;
  const task = await baton.submit({ kind: 'babbles', input: { lines, bytes: 500, turnEvery: 100 } });
  let last = 0;
  let dropped = 0;
  let noted = 0;
  let read = 0;
  for await (const { text } of task.logs({ follow: true })) {
    const note = /^… (\d+) lines? (?:was|were) dropped here/.exec(text);
    if (note) {
      noted += Number(note[1]);
      continue;
    }
    const number = Number(text.slice(0, text.indexOf(' ')));
    expect(number, 'in order, once').toBeGreaterThan(last);
    dropped += number - last - 1;
    last = number;
    read++;
  }
  expect(last).toBe(lines);
  expect(read + noted).toBe(lines);
  expect(dropped).toBe(noted);
  expect(peakMb(stack().master.pid) - before.master).toBeLessThan(300);
  expect(peakMb(stack().workers[0]!.pid) - before.worker).toBeLessThan(300);
});
