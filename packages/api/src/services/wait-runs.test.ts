import { WaitRunsRequestSchema } from '@baton/contract';
import { type ClientEngine, MAX_ANSWER_BYTES, type RunRow } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ApiOptions } from '../wire/options.ts';
import { waitRuns } from './wait-runs.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Runs of which this master knows all: `end` ends one. */
function scene() {
  const ended = new Map<string, RunRow>();
  const listening = new Set<() => void>();
  const engine = {
    env: { settings: { endsGatherMs: 4 }, now: Date.now },
    lanes: { knownNamespaceId: async () => 1 },
    endedRuns: { look: (id: string) => ended.get(id) ?? 'open' },
    ends: { waitAny: () => new Promise((resolve) => listening.add(() => resolve(true))) },
  } as unknown as ClientEngine;
  let answer: { ids: string[]; atMs: number } | undefined;
  const from = Date.now();
  return {
    wait(...runIds: string[]) {
      const request = create(WaitRunsRequestSchema, { runIds, wait: durationFromMs(20_000) });
      void waitRuns(engine, true, {} as ApiOptions, request, new AbortController().signal).then(({ runs }) => {
        answer = { ids: runs.map(({ id }) => id).sort(), atMs: Date.now() - from };
      });
    },
    end(id: string, output: Uint8Array | null = null) {
      ended.set(id, {
        id,
        createdAt: new Date(0),
        state: 'succeeded',
        output,
        outputEncoding: 2,
        input: null,
      } as RunRow);
      for (const wake of listening) wake();
    },
    answer: () => answer,
  };
}

test('runs that end right behind the first are told with it', async () => {
  const { wait, end, answer } = scene();
  wait('1', '2', '3');
  await vi.advanceTimersByTimeAsync(10);
  end('1');
  await vi.advanceTimersByTimeAsync(3);
  expect(answer()).toBeUndefined();
  end('2');
  await vi.advanceTimersByTimeAsync(5);
  expect(answer()).toEqual({ ids: ['1', '2'], atMs: 14 });
});

test('when all have ended nothing is waited for', async () => {
  const { wait, end, answer } = scene();
  wait('1', '2');
  await vi.advanceTimersByTimeAsync(10);
  end('1');
  end('2');
  await vi.advanceTimersByTimeAsync(0);
  expect(answer()).toEqual({ ids: ['1', '2'], atMs: 10 });
});

test('an answer has no more outputs than it may, and the next has the rest', async () => {
  const { wait, end, answer } = scene();
  const large = new Uint8Array(MAX_ANSWER_BYTES / 2);
  wait('1', '2', '3', '4');
  for (const id of ['1', '2', '3']) end(id, large);
  await vi.advanceTimersByTimeAsync(10);
  expect(answer()?.ids).toEqual(['1', '2']);
  wait('3', '4');
  await vi.advanceTimersByTimeAsync(10);
  expect(answer()?.ids).toEqual(['3']);
});
