import { gunzipSync, gzipSync } from 'node:zlib';
import { Code } from '@connectrpc/connect';
import { expect, it } from 'vitest';
import { webGzip } from './web-gzip.ts';

const words = new TextEncoder().encode('words '.repeat(1_000));

it('is gzip, both ways', async () => {
  const compressed = await webGzip.compress(words);
  expect(compressed.length).toBeLessThan(200);
  expect(new Uint8Array(gunzipSync(compressed))).toEqual(words);
  expect(await webGzip.decompress(new Uint8Array(gzipSync(words)), words.length)).toEqual(words);
  expect(await webGzip.decompress(new Uint8Array(), 10)).toEqual(new Uint8Array());
});

it('stops where the limit is', async () => {
  const bomb = new Uint8Array(gzipSync(Buffer.alloc(2 ** 27), { level: 9 }));
  const before = process.memoryUsage().rss;
  await expect(webGzip.decompress(bomb, 4 * 2 ** 20)).rejects.toMatchObject({ code: Code.ResourceExhausted });
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20);
});

it('refuses what is no gzip', async () => {
  await expect(webGzip.decompress(new Uint8Array([1, 2, 3]), 100)).rejects.toMatchObject({
    code: Code.InvalidArgument,
  });
  const cut = new Uint8Array(gzipSync(words)).subarray(0, 20);
  await expect(webGzip.decompress(cut, 10_000)).rejects.toMatchObject({ code: Code.InvalidArgument });
});
