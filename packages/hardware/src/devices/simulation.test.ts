import { describe, expect, test } from 'vitest';
import { hangs, parseSimulation, SimulationError, simulate } from './simulation.ts';

const gib = 1024 ** 3;

function at(text: string, elapsedMs: number, sinceMs = -1) {
  const reading = simulate(parseSimulation(text), elapsedMs, sinceMs);
  return reading.state === 'known' ? reading.gpus : [];
}

describe('a declaration', () => {
  test('names devices by count, model and memory', () => {
    expect(parseSimulation('4xH100:80').gpus).toEqual(
      [0, 1, 2, 3].map((i) => ({ uuid: `SIM-GPU-${i}`, model: 'H100', memoryBytes: 80 * gib })),
    );
    expect(
      parseSimulation('1xA100 SXM:40, 2xT4:16').gpus.map((gpu) => [gpu.uuid, gpu.model, gpu.memoryBytes / gib]),
    ).toEqual([
      ['SIM-GPU-0', 'A100 SXM', 40],
      ['SIM-GPU-1', 'T4', 16],
      ['SIM-GPU-2', 'T4', 16],
    ]);
  });

  test.each([
    ['0xH100:80', /0 simulated GPUs/],
    ['some', /declares no simulated GPUs/],
    ['99xH100', /99 simulated GPUs/],
    ['{"gpus": "2xT4:16", "faults": [{"gpu": 2, "lost": true}]}', /faults\[0\]\.gpu is 2; there are devices 0 to 1/],
    ['{"gpus": "2xT4:16", "faults": [{"temprature_c": 90}]}', /has temprature_c; there are at_ms/],
    ['{"gpus": "2xT4:16", "faults": [{"at_ms": "soon"}]}', /at_ms is no number/],
    ['{', /no JSON/],
  ])('%s is refused with what to write', (text, message) => {
    expect(() => parseSimulation(text)).toThrow(SimulationError);
    expect(() => parseSimulation(text)).toThrow(message);
  });
});

describe('a simulated machine', () => {
  const script = JSON.stringify({
    gpus: [{ count: 2, model: 'H100', memory_gib: 80 }],
    faults: [
      { at_ms: 1_000, for_ms: 500, gpu: 0, temperature_c: 96 },
      { at_ms: 2_000, gpu: 1, ecc_uncorrected: 3 },
      { at_ms: 3_000, gpu: 1, xid: 79 },
      { at_ms: 4_000, for_ms: 100, hang: true },
      { at_ms: 5_000, gpu: 0, process: { pid: 77, memory_gib: 60 } },
      { at_ms: 6_000, gpu: 1, lost: true },
    ],
  });

  test('falls ill and gets well at the times that were declared', () => {
    expect([999, 1_000, 1_499, 1_500].map((ms) => at(script, ms)[0]!.temperatureC)).toEqual([40, 96, 96, 40]);
    expect([1_999, 2_000, 60_000].map((ms) => at(script, ms).map((gpu) => gpu.eccUncorrected))).toEqual([
      [0, 0],
      [0, 3],
      [0, null],
    ]);
    expect([3_999, 4_000, 4_100].map((ms) => hangs(parseSimulation(script), ms))).toEqual([false, true, false]);
    expect(at(script, 5_000)[0]).toMatchObject({
      memoryUsedBytes: 60 * gib,
      processes: [{ pid: 77, memoryBytes: 60 * gib }],
    });
    expect(at(script, 6_000).map((gpu) => gpu.lost)).toEqual([null, 'GPU is lost (simulated)']);
  });

  test('tells an XID once, in the first reading after it happened', () => {
    expect(at(script, 2_999, 0)[1]!.xids).toEqual([]);
    expect(at(script, 3_400, 2_999)[1]!.xids).toEqual([79]);
    expect(at(script, 3_800, 3_400)[1]!.xids).toEqual([]);
  });
});
