import { describe, expect, it } from 'vitest';
import { createSelectors } from './selectors.ts';

const selectors = createSelectors();
const worker = {
  name: 'anna',
  os: 'linux',
  cpus: 16,
  memory_gib: 62.5,
  tags: ['ssd', 'eu'],
  tools: { ffmpeg: '5.1' },
  kinds: Array.from({ length: 200 }, (_, i) => `kind-${i}`),
};
const gpu = { uuid: 'GPU-1', model: 'NVIDIA A100', memory_gib: 80, simulated: false };

describe('a selector', () => {
  it.each<[string, boolean]>([
    ['gpu.memory_gib >= 40 && worker.tags.exists(t, t == "ssd")', true],
    ['gpu.memory_gib >= 79.5', true],
    ['gpu.memory_gib > 80.0', false],
    ['worker.memory_gib >= 62', true],
    ['worker.os == "linux" && worker.cpus < 16', false],
    ['gpu.model.contains("A100")', true],
    ['has(worker.tools.ffmpeg)', true],
    ['"ffprobe" in worker.tools', false],
    ['!gpu.simulated', true],
  ])('%s', (text, is) => {
    expect(selectors.check(text)).toMatchObject({ ok: true });
    expect(selectors.matches(text, worker, gpu)).toBe(is);
  });

  it('says which names it uses', () => {
    expect(selectors.asksForDevice('gpu.memory_gib >= 40')).toBe(true);
    expect(selectors.asksForDevice('worker.gpus.exists(gpus, gpus.memory_gib > 3)')).toBe(false);
  });

  it.each<[string, RegExp, number?]>([
    ['gpu.memory >= 40', /"gpu" has no "memory"/, 3],
    ['worker.os = "linux"', /./],
    ['gpus.memory_gib > 1', /"gpus" stands for nothing/, 0],
    ['worker.tags.exists(gpu, true)', /"gpu" has a meaning of its own/],
    ['input.x', /"input" stands for nothing/],
    ['', /nothing in it/],
  ])('%s is refused with its place', (text, message, offset) => {
    const checked = selectors.check(text);
    expect(checked).toMatchObject({ ok: false, message: expect.stringMatching(message) });
    if (offset !== undefined) expect(checked).toMatchObject({ offset });
  });

  it('that has no value, or too much to do, throws what is wrong, and is done soon', () => {
    expect(() => selectors.matches('worker.cpus', worker, null)).toThrow('neither true nor false');
    expect(() => selectors.matches('worker.metadata.zone == "a"', worker, null)).toThrow();
    const deep = 'worker.kinds.all(a, worker.kinds.all(b, worker.kinds.all(c, a + b != c)))';
    const before = performance.now();
    expect(() => selectors.matches(deep, worker, null)).toThrow();
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});
