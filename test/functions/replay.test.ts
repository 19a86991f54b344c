import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { useStack } from '@baton/testkit/vitest';
import { expect, test } from 'vitest';

const pathOf = (name: string) => fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
const stack = useStack({ tasksModule: new URL('./unversioned-1.ts', import.meta.url) });
const bin = fileURLToPath(new URL('./bin.ts', import.meta.resolve('@baton/cli')));

/** `baton …` as a process of its own. */
function baton(...words: string[]): Promise<{ code: number; stdout: string }> {
  const env = { PATH: process.env.PATH, HOME: stack().home, BATON_URL: stack().url, BATON_HOME: stack().home };
  return new Promise((resolve) =>
    execFile(process.execPath, [bin, ...words], { env }, (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout }),
    ),
  );
}

test('the command signals a run, shows its journal, and tells which code fits what it has done', async () => {
  const client = createBaton({ url: stack().url });
  const ended = await client.runs.start('changing');
  const waiting = await client.runs.start('changing');
  expect(await baton('run', 'signal', ended.id, 'go', '--data', '{"by": "Ada"}')).toMatchObject({ code: 0 });
  expect((await ended.result()).output).toBe('charged');
  await expect.poll(async () => (await waiting.status()).state).toBe('waiting');

  const journal = await baton('run', 'journal', ended.id, '-o', 'json');
  expect(JSON.parse(journal.stdout).entries).toMatchObject([
    { number: 1, kind: 'step', name: 'charge', output: 'charged' },
    { number: 2, kind: 'signal', name: 'go', output: { by: 'Ada' } },
  ]);
  expect((await baton('run', 'get', waiting.id)).stdout).toMatch(/waiting .*for signal go/);

  const same = await baton('workflow', 'replay', pathOf('unversioned-1'));
  expect(same.stdout).toContain(`run ${ended.id} of changing (succeeded): fits, 2 steps`);
  expect(same.stdout).toContain(`run ${waiting.id} of changing (waiting): fits, 2 steps so far`);
  expect(same.code).toBe(0);

  const changed = await baton('workflow', 'replay', pathOf('unversioned-2'), '--run', ended.id, '-o', 'json');
  expect(changed.code).toBe(1);
  expect(JSON.parse(changed.stdout)).toMatchObject([
    {
      id: ended.id,
      fits: false,
      number: 1,
      message: expect.stringMatching(/step `charge` in the journal, step `refund` in the code/),
    },
  ]);
  // Nothing was carried out, and nothing written.
  expect((await client.runs.journal(waiting.id)).entries).toHaveLength(2);
}, 60_000);
