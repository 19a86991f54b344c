import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { Ends, type EndsOptions } from './ends.ts';
import { BatonError } from './error.ts';

const retry = { attempts: 3, baseDelayMs: 1, maxDelayMs: 2, reconnectMs: 60_000 };

/** A server whose calls are answered by the test. */
function setUp(options: Pick<EndsOptions<{ id: string }>, 'patienceMs'> = {}) {
  interface Asked {
    readonly ids: string[];
    readonly signal: AbortSignal;
    answer(response: { ended?: string[]; missing?: string[] }): void;
    fail(error: unknown): void;
  }
  const calls: Asked[] = [];
  const ends = new Ends<{ id: string }>({
    call: (ids, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(new ConnectError('aborted', Code.Canceled)));
        calls.push({
          ids,
          signal,
          answer: ({ ended = [], missing = [] }) =>
            resolve({ ended: new Map(ended.map((id) => [id, { id }])), missing }),
          fail: reject,
        });
      }),
    retry,
    notFound: (id) => new BatonError({ code: 'not_found', reason: 'NOT_FOUND', message: `there is no ${id}` }),
    ...options,
  });
  const open = () => calls.filter(({ signal }) => !signal.aborted);
  return { calls, ends, open };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test('those who wait in one tick wait by one call, each for its own run', async () => {
  const { calls, ends } = setUp();
  const waits = ['1', '2', '3'].map((id) => ends.wait(id));
  await settled();
  expect(calls.map(({ ids }) => ids)).toEqual([['1', '2', '3']]);
  calls[0]!.answer({ ended: ['2'] });
  expect((await waits[1])!.id).toBe('2');
  await settled();
  expect(calls[1]!.ids).toEqual(['1', '3']);
  calls[1]!.answer({ ended: ['1', '3'] });
  expect((await Promise.all(waits)).map(({ id }) => id)).toEqual(['1', '2', '3']);
  expect(calls).toHaveLength(2);
});

test('who comes later never waits behind a call that does not know of it, and there are never many calls', async () => {
  const { ends, open } = setUp();
  const waits: Promise<{ id: string }>[] = [];
  for (let id = 1; id <= 20; id++) {
    waits.push(ends.wait(String(id)));
    await expect.poll(() => open().flatMap(({ ids }) => ids)).toContain(String(id));
    expect(open().length).toBeLessThanOrEqual(4);
  }
  while (open().length > 0) {
    for (const call of open()) {
      call.answer({ ended: call.ids });
      await settled();
    }
    if ((await Promise.race([Promise.all(waits), settled().then(() => null)])) !== null) break;
  }
  expect((await Promise.all(waits)).map(({ id }) => Number(id))).toEqual([...Array(20).keys()].map((i) => i + 1));
});

test('a call that ends without news, or breaks, is made again; what is refused is told to those who wait', async () => {
  const { calls, ends } = setUp();
  const wait = ends.wait('1');
  await settled();
  calls[0]!.answer({});
  await expect.poll(() => calls.length).toBe(2);
  calls[1]!.fail(new ConnectError('gone', Code.Unavailable));
  await expect.poll(() => calls.length).toBe(3);
  calls[2]!.fail(new ConnectError('no', Code.PermissionDenied));
  await expect(wait).rejects.toMatchObject({ code: 'permission_denied' });
});

test('a run that is not there is not_found, and its neighbour goes on waiting', async () => {
  const { calls, ends } = setUp();
  const [none, other] = [ends.wait('1'), ends.wait('2')];
  await settled();
  calls[0]!.answer({ missing: ['1'] });
  await expect(none).rejects.toMatchObject({ code: 'not_found', reason: 'NOT_FOUND' });
  await expect.poll(() => calls.length).toBe(2);
  calls[1]!.answer({ ended: ['2'] });
  expect((await other).id).toBe('2');
});

test('who leaves by its signal leaves the others alone; the last one ends the call', async () => {
  const { calls, ends } = setUp();
  const [first, second] = [new AbortController(), new AbortController()];
  const waits = [ends.wait('1', first.signal), ends.wait('2', second.signal)];
  await settled();
  first.abort();
  await expect(waits[0]).rejects.toMatchObject({ code: 'canceled' });
  expect(calls[0]!.signal.aborted).toBe(false);
  second.abort();
  await expect(waits[1]).rejects.toMatchObject({ code: 'canceled' });
  expect(calls[0]!.signal.aborted).toBe(true);
  expect(calls).toHaveLength(1);
});

test('one of which no server has spoken is given up after a few tries, others are not', async () => {
  const { calls, ends } = setUp();
  const unknown = ends.wait('1', undefined, false);
  const known = ends.wait('2');
  const away = () => new ConnectError('away', Code.Unavailable);
  const refused = expect(unknown).rejects.toMatchObject({ code: 'unavailable' });
  for (let n = 0; n < retry.attempts; n++) {
    await expect.poll(() => calls.length).toBe(n + 1);
    calls[n]!.fail(away());
  }
  await refused;
  await expect.poll(() => calls.at(-1)!.ids).toEqual(['2']);
  calls.at(-1)!.answer({ ended: ['2'] });
  expect(await known).toEqual({ id: '2' });
});

test('one of which a server has spoken is not given up so soon', async () => {
  const { calls, ends } = setUp();
  const wait = ends.wait('1', undefined, false);
  await settled();
  calls[0]!.answer({});
  for (let n = 1; n < retry.attempts + 3; n++) {
    await expect.poll(() => calls.length).toBe(n + 1);
    calls[n]!.fail(new ConnectError('away', Code.Unavailable));
  }
  await expect.poll(() => calls.length).toBe(retry.attempts + 4);
  calls.at(-1)!.answer({ ended: ['1'] });
  expect(await wait).toEqual({ id: '1' });
});
